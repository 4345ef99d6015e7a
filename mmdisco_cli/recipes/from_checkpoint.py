"""From one weights file to the recipe that samples with it: `mmdisco sample --checkpoint FILE`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdisco_cli.conversion.published import ENLARGER, UNET, about_aist
from mmdisco_cli.errors import DataError
from mmdisco_cli.recipes.recipe import load, load_plain, packaged
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run.options import path_at_home
from mmdisco_cli.weights_file import any_about


def recipe_of(path: Path, overrides: Sequence[str] = ()) -> tuple[Recipe, bool]:
    """Return the recipe of the models that a file belongs to, with its weights, and whether it can guide them.

    Raises:
        DataError: no file of ours, or one that is not sampled with.
        PluginError: nobody provides its base models.
        UsageError: overrides that do not fit.
    """
    path = path_at_home(path)
    if not path.is_file():
        raise DataError(f"{path}: a folder, not a file of weights" if path.is_dir() else f"{path}: no such file")
    about = any_about(path)
    if about.get("kind") == "discriminator":
        return _of_discriminator(path, about, overrides), True
    if about.get("architecture") == UNET:
        name = "aist" if about_aist([path.name, str(about.get("source", {}).get("file"))]) else "landscape"
        return load(name, [_set("backbones.film.weights", path), *overrides]), False
    what = about.get("architecture") or about.get("kind")
    where = "backbones.film.sr_weights" if what == ENLARGER else "the weights of a backbone"
    raise DataError(f"{path}: holds a {what}, which is not sampled with alone: give it to a recipe as {where}")


def _of_discriminator(path: Path, about: Mapping[str, Any], overrides: Sequence[str]) -> Recipe:
    weights, recipe = _set("sample.weights", path), about.get("recipe")
    if isinstance(recipe, Mapping):  # trained here: the file holds the whole recipe
        return load_plain(recipe, str(path), [weights, *overrides])
    if not isinstance(recipe, str):
        raise DataError(f"{path}: does not say which recipe it belongs to; name one with --recipe")
    if recipe not in packaged():
        raise DataError(f"{path}: belongs to the recipe {recipe}, which this version of mmdisco does not have")
    return load(recipe, [weights, *overrides])


def _set(key: str, path: Path) -> str:
    # JSON is YAML too, and keeps a path with a colon in it text.
    return f"{key}={json.dumps(str(path), ensure_ascii=False)}"
