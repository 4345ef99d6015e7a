"""The base models beneath a discriminator: which they are, and what of them may be published."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mmdisco_cli.errors import DataError
from mmdisco_cli.fetching.hub import cached_revision
from mmdisco_cli.recipes.schema import Component, Recipe
from mmdisco_cli.registry.installing import how_to_install, providers
from mmdisco_cli.run.files import sha256_of
from mmdisco_cli.schema import at_home
from mmdisco_cli.training.release.portable import is_local
from mmdisco_cli.weights_file import PACKAGED, any_about, find_weights


@dataclass(frozen=True)
class BaseModel:
    """One base model of a recipe: a line for each of its files, and those of the Hugging Face Hub by name.

    `ours` is its file where it was trained by mmdisco and is not packaged with it; `install` how its plugin is had.
    """

    label: str
    name: str
    fingerprint: str
    files: tuple[str, ...] = ()
    hub: tuple[str, ...] = ()
    ours: Path | None = None
    install: str = ""


def base_models(recipe: Recipe, fingerprints: Mapping[str, str]) -> list[BaseModel]:
    """Return the base models of a recipe, with the fingerprints that its discriminator holds."""
    return [_described(label, part, fingerprints.get(label, "")) for label, part in recipe.backbones.items()]


def _described(label: str, part: Component, fingerprint: str) -> BaseModel:
    files, hub, ours = [], [], None
    for option, value in _paths(part.options).items():
        found = _found(value)
        about = _about(found)
        if found is not None:
            files.append(_file_line(found, about))
            ours = found if option == "weights" and _trained_here(found, about) else ours
        elif Path(at_home(value)).exists():
            files.append(f"a folder of the machine that it was trained on, {Path(value).name}")
        elif not is_local(value):
            hub.append(value)
            files.append(f"{value}, {_revision(value)}")
    return BaseModel(label, part.name, fingerprint, tuple(files), tuple(hub), ours, _install(part))


def _install(part: Component) -> str:
    owner = part.spec.owner.split(" ")[0]
    ours = owner in providers("backbone", part.spec.name)
    return how_to_install(owner) if ours else f"with the plugin {owner}" if owner else ""


def _paths(options: Any) -> dict[str, str]:
    named = [f.name for f in fields(options) if "bounds" in f.metadata and f.metadata["bounds"].path]
    return {
        name: value for name, value in asdict(options).items() if name in named and isinstance(value, str) and value
    }


def _found(value: str) -> Path | None:
    try:
        return find_weights(value)
    except DataError:
        return None


def _about(file: Path | None) -> Mapping[str, Any]:
    try:
        return any_about(file) if file is not None else {}
    except DataError:
        return {}


def _trained_here(file: Path, about: Mapping[str, Any]) -> bool:
    return about.get("kind") == "backbone" and "source" not in about and file.parent != PACKAGED


def _file_line(file: Path, about: Mapping[str, Any]) -> str:
    source, licence = about.get("source", {}), about.get("licence")
    made = f", converted from {source.get('file')} of SHA-256 {source.get('sha256')}" if source else ""
    packaged = ", which mmdisco ships" if file.parent == PACKAGED else ""
    return f"{file.name} of SHA-256 {sha256_of(file)}{packaged}{made}{f', licence {licence}' if licence else ''}"


def _revision(name: str) -> str:
    return f"revision {cached_revision(name) or 'unknown'}"
