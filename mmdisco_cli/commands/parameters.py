"""The command-line options that several commands share."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmdisco_cli.errors import UsageError
from mmdisco_cli.fetching import DOWNLOAD
from mmdisco_cli.schema import WIDEST

if TYPE_CHECKING:
    from mmdisco_cli.recipes.schema import Recipe


def allow_downloads(chosen: bool) -> None:
    """Set MMDISCO_DOWNLOAD, so that plugins, in child processes too, may fetch missing models."""
    if chosen:
        os.environ[DOWNLOAD] = "1"


def complete_recipes(incomplete: str) -> list[str]:
    """Return the packaged recipes that a shell may complete a name to; it completes paths itself."""
    from mmdisco_cli.recipes.recipe import packaged

    return [name for name in packaged() if name.startswith(incomplete)]


def complete_settings(incomplete: str) -> list[str]:
    """Return the keys of recipes that a shell may complete KEY= to, or the choices of one whose value begins."""
    from mmdisco_cli.recipes.reference import recipe_keys

    name, equals, value = incomplete.partition("=")
    if not equals:
        return [f"{key.key}=" for key in recipe_keys() if key.key.startswith(name)]
    choices = next((key.choices for key in recipe_keys() if key.key == name), ())
    return [f"{name}={choice}" for choice in choices if choice.startswith(value)]


def complete_sections(incomplete: str) -> list[str]:
    """Return the sections and keys of recipes that a shell may complete a word to."""
    from mmdisco_cli.recipes.reference import recipe_keys

    keys = [key.key.split(".") for key in recipe_keys()]
    names = [".".join(parts[:depth]) for parts in keys for depth in range(1, 1 + len(parts))]
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


def load_recipe(command: str, name: str, settings: Sequence[str] | None) -> "Recipe":
    """Load a command's recipe, and remember the command line for the hints in error messages."""
    from mmdisco_cli.recipes.hints import Present, remember
    from mmdisco_cli.recipes.recipe import load

    remember(Present(command, name, tuple(settings or ())))
    return load(name, settings or ())


def named_path(text: str) -> Path:
    """Return the path that an option names; raise BadParameter for none, which would be the current folder."""
    if not text:
        raise typer.BadParameter("empty, as is a variable of the shell that is not set; the current folder is .")
    return Path(text)


def within_64_bits(number: int | None) -> int | None:
    """Return a number that tensors and random generators take; raise BadParameter for a larger one."""
    if number is not None and number > WIDEST[1]:
        raise typer.BadParameter(f"{number} is more than {WIDEST[1]}")
    return number


RecipeOption = Annotated[
    str,
    typer.Option(
        "--recipe",
        metavar="NAME|PATH",
        help="A recipe file, or the name of a packaged recipe.",
        autocompletion=complete_recipes,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override one value of the recipe, as in sample.steps=20.",
        autocompletion=complete_settings,
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="Where to write; runs/RECIPE/... by default.", parser=named_path),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, one object a line.")]
DownloadOption = Annotated[bool, typer.Option("--download", help="Fetch models that are not on this machine.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")]


def parse_shard(text: str | None) -> tuple[int, int] | None:
    """Return the numbers of `--shard I/N`; raise UsageError where they are none."""
    if text is None:
        return None
    numbers = re.fullmatch(r"([0-9]{1,18})/([0-9]{1,18})", text)
    index, count = map(int, numbers.groups()) if numbers else (0, 0)
    if index >= count:
        raise UsageError(f"--shard {text}: expected I/N with 0 <= I < N, as in 0/4")
    return index, count
