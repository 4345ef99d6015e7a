"""`mmdisco recipes ls|cat|copy|keys`."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mmdisco_cli.commands.parameters import JsonOption, complete_recipes, complete_sections, named_path
from mmdisco_cli.commands.reference import key_lines
from mmdisco_cli.errors import UsageError, did_you_mean
from mmdisco_cli.run.console import record, result
from mmdisco_cli.run.options import path_at_home

app = typer.Typer(rich_markup_mode=None, help="List, show and copy the packaged recipes.")

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A packaged recipe, or a file.", autocompletion=complete_recipes)
]


@app.command("ls")
def ls(json: JsonOption = False) -> None:
    """List the packaged recipes."""
    from mmdisco_cli.recipes.recipe import packaged
    from mmdisco_cli.recipes.yaml_nodes import lookup, read_tree

    found = packaged()
    width = max(map(len, found)) + 2
    for name, path in found.items():
        node = lookup(read_tree(path), "summary")
        summary = str(node.value) if node else ""
        if json:
            record({"name": name, "summary": summary, "path": str(path)})
        else:
            result(f"{name:<{width}}{summary}".rstrip())


@app.command("cat")
def cat(name: NameArgument) -> None:
    """Print a recipe as it is written."""
    from mmdisco_cli.recipes.recipe import find
    from mmdisco_cli.recipes.yaml_nodes import read_text

    result(read_text(find(name)).rstrip("\n"))


@app.command("copy")
def copy(
    name: NameArgument,
    destination: Annotated[
        Path | None,
        typer.Argument(metavar="[DESTINATION]", parser=named_path, help="File or folder; here by default."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Copy a recipe to edit it, and print where it went; under another name, its runs are of that name."""
    from mmdisco_cli.recipes.copies import renamed
    from mmdisco_cli.recipes.recipe import find
    from mmdisco_cli.recipes.yaml_nodes import read_text

    source = find(name)
    target = path_at_home(destination or Path())
    target = target / source.name if target.is_dir() else target
    if target.exists() and not overwrite:
        raise UsageError(f"{target}: exists (--overwrite replaces it)")
    target.write_text(renamed(read_text(source), source.stem, target), encoding="utf-8")
    result(str(target))


@app.command("keys")
def keys(
    section: Annotated[
        str | None,
        typer.Argument(
            metavar="[SECTION]",
            help="Only keys at or below this one, as train or sample.given.",
            autocompletion=complete_sections,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Print the keys of a recipe: type, default, bounds and meaning."""
    from mmdisco_cli.recipes.reference import recipe_keys

    found = recipe_keys(section or "")
    if not found:
        raise UsageError(_no_key(section or ""))
    for key in found if json else ():
        record(asdict(key))
    for line in () if json else key_lines(found):
        result(line)


def _no_key(section: str) -> str:
    """Say that there is no such key, and where the options of entries are described."""
    from mmdisco_cli.recipes.reference import recipe_keys

    known = [key.key for key in recipe_keys()]
    if section.split(".")[0] in ("data", "backbones", "discriminator"):
        return f"{section}: its options depend on the entry that the recipe names: mmdisco plugins NAME prints them"
    sections = [".".join(key.split(".")[:depth]) for key in known for depth in (1, 2)]
    return f"unknown key {section!r}{did_you_mean(section, dict.fromkeys([*sections, *known]))}"
