"""From weights to the recipe that samples with them: `mmdisco sample --checkpoint` of a file, folder or repository."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.fetching.hub import cached_folder, fetch_folder
from mmdisco_cli.hookspecs import ConverterSpec
from mmdisco_cli.recipes.hints import command_line
from mmdisco_cli.recipes.recipe import load, load_plain, packaged
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.registry.plugins import load_registry
from mmdisco_cli.run.options import path_at_home
from mmdisco_cli.weights_file import any_about

HUB = "hf:"
PUBLISHED = ("*.safetensors", "recipe.yaml", "README.md")
"""What is fetched of a repository: no pickles and no code, whatever lies in it."""
FILES = ("discriminator.safetensors", "backbone.safetensors")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def checkpoint_file(name: str, download: bool = False) -> Path:
    """Return the weights that `--checkpoint` names: a file, or those of a folder or repository of the Hugging Face Hub.

    Of hf:OWNER/NAME or hf:OWNER/NAME@REVISION only weights, recipe and model card are read, from the local cache; with
    `download` they are fetched.

    Raises:
        UsageError: no name of a repository.
        DataError: it is not in the cache, cannot be fetched, or has no weights of mmdisco in it.
    """
    if not name.startswith(HUB):
        path = path_at_home(Path(name))
        return _weights_in(path, name) if path.is_dir() else path
    repository, _, revision = name.removeprefix(HUB).partition("@")
    if not _REPOSITORY.fullmatch(repository) or name.endswith("@"):
        raise UsageError(f"--checkpoint {name}: expected {HUB}OWNER/NAME or {HUB}OWNER/NAME@REVISION")
    return _weights_in(_folder(name, repository, revision or "main", download), name)


def is_checkpoint(name: str) -> bool:
    """Return whether a name is for `checkpoint_file` rather than of a recipe."""
    holds = any((path_at_home(Path(name)) / file).is_file() for file in FILES)
    return name.startswith(HUB) or name.endswith(".safetensors") or holds


def _folder(name: str, repository: str, revision: str, download: bool) -> Path:
    if download:
        return fetch_folder(repository, revision, PUBLISHED)
    folder = cached_folder(repository, revision, PUBLISHED)
    if folder is None:
        pinned = ["--revision", revision] if revision != "main" else []
        command = command_line("hf", "download", repository, *pinned)
        raise DataError(f"{name} is not in the cache: fetch it with `{command}`, or add --download")
    return folder


def _weights_in(folder: Path, name: str) -> Path:
    found = [path for file in FILES if (path := folder / file).is_file()]
    if not found:
        raise DataError(f"{name}: has no discriminator.safetensors, which `mmdisco train` leaves in its folder release")
    return found[0]


def _hint(path: Path) -> str:
    """Say what else a name may mean that is no file: something on the hub, or packaged weights."""
    if len(path.parts) == 2 and not path.suffix and not path.is_absolute():
        return f" (on the hub: --checkpoint hf:{path.as_posix()})"
    return f" (a recipe of that name: --recipe {path})" if str(path) in packaged() else ""


def recipe_of(path: Path, overrides: Sequence[str] = ()) -> tuple[Recipe, bool]:
    """Return the recipe of the models that a file belongs to, with its weights, and whether it can guide them.

    Raises:
        DataError: not a file that mmdisco wrote, or not one that can be sampled.
        PluginError: no plugin provides its base models.
        UsageError: overrides that do not fit.
    """
    path = path_at_home(path)
    if not path.is_file():
        raise DataError(
            f"{path}: a folder, not a file of weights" if path.is_dir() else f"{path}: no such file{_hint(path)}"
        )
    about = any_about(path)
    if about.get("kind") == "discriminator":
        return _of_discriminator(path, about, overrides), True
    what = str(about.get("architecture") or about.get("kind"))
    converter = _converter(what)
    recipe = _alone(converter, [str(about.get("source", {}).get("file")), path.name]) if converter else ""
    if converter is not None and recipe:
        return load(recipe, [_set(converter.key, path), *overrides]), False
    where = (converter.key if converter else "") or "the weights of a backbone"
    raise DataError(f"{path}: holds a {what}, which is not sampled with alone: give it to a recipe as {where}")


def _converter(name: str) -> ConverterSpec | None:
    """Return what converts files of an architecture, None for one without a converter.

    Raises:
        PluginError: a plugin that is not installed does, or several do.
    """
    registry = load_registry()
    known = any(spec.name == name for _, spec in registry.entries("converter"))
    if not known and not registry.installable("converter", name):
        return None
    spec = registry.find("converter", name)
    return spec if isinstance(spec, ConverterSpec) else None


def _alone(converter: ConverterSpec, files: Sequence[str]) -> str:
    """Return the recipe that samples with a converted file alone, by the names that the file has had; empty for none.

    One that is named like no published file, nor after its recipe, is taken for the first.
    """
    able = [one for one in converter.published if one.recipe]
    alike = [one for one in able if one.file in files or any(one.recipe in file.lower() for file in files)]
    return next((one.recipe for one in [*alike, *able]), "")


def _of_discriminator(path: Path, about: Mapping[str, Any], overrides: Sequence[str]) -> Recipe:
    weights, recipe = _set("sample.weights", path), about.get("recipe")
    if isinstance(recipe, Mapping):  # trained here: the file holds the whole recipe
        return load_plain(recipe, str(path), [weights, *_beside(path, recipe), *overrides])
    if not isinstance(recipe, str):
        raise DataError(f"{path}: does not say which recipe it belongs to; name one with --recipe")
    if recipe not in packaged():
        raise DataError(f"{path}: belongs to the recipe {recipe}, which this version of mmdisco does not have")
    return load(recipe, [weights, *overrides])


def _beside(path: Path, recipe: Mapping[str, Any]) -> list[str]:
    """Return the overrides for base models that were published in one folder with a discriminator."""
    parts = recipe.get("backbones")
    labels = parts if isinstance(parts, Mapping) else {}
    files = {label: f"backbones/{label}.safetensors" for label in labels}
    return [
        _set(f"backbones.{label}.weights", path.parent / file)
        for label, file in files.items()
        if isinstance(labels[label], Mapping)
        and labels[label].get("weights") == file
        and (path.parent / file).is_file()
    ]


def _set(key: str, path: Path) -> str:
    # JSON is YAML too, and keeps a path with a colon in it text.
    return f"{key}={json.dumps(str(path), ensure_ascii=False)}"
