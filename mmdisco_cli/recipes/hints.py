"""Commands that a message advises to run: with what the present run was given, so that a copy of them works."""

import contextlib
import shlex
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mmdisco_cli.errors import MMDiscoError

if TYPE_CHECKING:
    from mmdisco_cli.recipes.schema import Recipe

CARRIED = ("data.", "request.")
"""Settings that another recipe's training must share with the present run: the clips and their sizes."""


@dataclass(frozen=True)
class Present:
    """The command that is running, and the recipe and the settings that it was given."""

    command: str
    recipe: str
    settings: tuple[str, ...] = ()


_PRESENT: ContextVar[Present | None] = ContextVar("present", default=None)


def remember(present: Present | None) -> None:
    """Keep what this run was given, for its hints; None forgets what an earlier one was given."""
    _PRESENT.set(present)


def present_command() -> str:
    """Return the name of the running command, empty where the package is used from Python."""
    present = _PRESENT.get()
    return present.command if present else ""


def present_folder() -> Path | None:
    """Return the folder of the running command's recipe, where it is a file of another folder than the current one."""
    present = _PRESENT.get()
    folder = Path(present.recipe).parent if present else Path()
    return None if folder == Path() else folder


def command_line(*words: str) -> str:
    """Return words as a shell reads them."""
    return shlex.join(words)


def how_trained(weights: str, recipe: "Recipe | None" = None) -> str | None:
    """Return the command that leaves its weights at a path such as runs/NAME/train/discriminator.safetensors.

    `recipe` is the one that names the weights. None where no recipe that is known would write just that file.
    """
    path = Path(weights)
    if len(path.parts) < 4 or (path.parts[-4], path.parts[-2]) != ("runs", "train"):
        return None
    name = path.parts[-3]
    own = recipe is not None and recipe.name == name
    training = recipe if own else _packaged(name)
    if training is None or path.name != f"{training.train.target}.safetensors":
        return None
    out = [] if path == Path("runs", name, "train") / path.name else ["--out", str(path.parent)]
    return train_command(training, data_path(recipe), out)


def train_command(recipe: "Recipe", data: str | None = None, more: Sequence[str] = ()) -> str:
    """Return the command that trains a recipe; `data` is the folder of clips where the recipe names none."""
    present = _PRESENT.get()
    settings = present.settings if present else ()
    own = present is not None and Path(present.recipe).name.removesuffix(".yaml") == recipe.name
    kept = [text for text in settings if own or text.startswith(CARRIED)]
    lacks = recipe.data is not None and getattr(recipe.data.options, "path", "") is None
    if lacks and not any(text.startswith("data.path=") for text in kept):
        kept.append(f"data.path={data or 'DIR'}")
    chosen = [word for text in kept for word in ("--set", text)]
    named = present.recipe if present and own else recipe.name
    return command_line("mmdisco", "train", "--recipe", named, *chosen, *more)


def other_weights(recipe: "Recipe", trained: Path) -> str | None:
    """Say that a recipe samples with other weights than its training has just written; None where it does not.

    Recipes with ready-made weights do, and those that were derived from others or trained into a folder of choice.
    """
    from mmdisco_cli.weights_file import find_weights

    named = recipe.sample.weights
    with contextlib.suppress(MMDiscoError, OSError):
        if named is not None and find_weights(named).samefile(trained):
            return None
    how = command_line("--set", f"sample.weights={trained}")
    return f"note: sample.weights is {named or 'not set'}: to sample and evaluate with the new weights, add {how}"


def data_path(recipe: "Recipe | None") -> str | None:
    """Return the folder of clips that a recipe names."""
    path = getattr(recipe.data.options, "path", None) if recipe and recipe.data else None
    return path if isinstance(path, str) else None


def _packaged(name: str) -> "Recipe | None":
    from mmdisco_cli.recipes.recipe import load, packaged

    try:
        return load(name) if name in packaged() else None
    except MMDiscoError:  # such as for want of its plugin: then there is nothing to advise
        return None
