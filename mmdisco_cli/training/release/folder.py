"""The folder to publish: self-contained but for base models of others, which it names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mmdisco_cli.backbones.additions import to_publish
from mmdisco_cli.errors import DataError
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run.files import SHORT, sha256_of, write_text
from mmdisco_cli.training.directory import RELEASE
from mmdisco_cli.training.release.bases import BaseModel, base_models
from mmdisco_cli.training.release.card import CARD, model_card
from mmdisco_cli.training.release.figures import FIGURES
from mmdisco_cli.training.release.portable import portable
from mmdisco_cli.weights_file import save_weights


def write_release(folder: Path, weights: Path, recipe: Recipe) -> Path:
    """Write what is published of a training whose weights are there, and return its folder, `release` below `folder`.

    Base models that were trained here lie beside the weights, converted or downloaded ones do not. Nothing in it names
    a path of this machine; the files are new, so their fingerprints are too.

    Raises:
        DataError: a file cannot be read or written.
    """
    release, (tensors, about) = folder / RELEASE, to_publish(weights)
    (release / CARD).unlink(missing_ok=True)  # written last: a folder that has one is whole
    (release / FIGURES).unlink(missing_ok=True)  # of other weights
    bases = base_models(recipe, about.get("backbones", {}))
    own = {base.label: _copied(base, release) for base in bases if base.ours is not None}
    plain = _plain(recipe, weights.name, own)
    about = portable({**about, "recipe": plain})
    if "backbones" in about:
        about["backbones"] |= {label: sha256_of(release / file)[:SHORT] for label, file in own.items()}
    save_weights(release / weights.name, tensors, about, exact=True)
    write_text(release / "recipe.yaml", yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120))
    write_text(release / CARD, model_card(recipe, about, bases, own))
    return release


def is_released(folder: Path) -> bool:
    """Return whether `write_release` has come to its end."""
    return (folder / RELEASE / CARD).is_file()


def _copied(base: BaseModel, release: Path) -> str:
    """Copy a base model of ours into the folder, and return its name there."""
    if base.ours is None:
        raise DataError(f"backbones.{base.label}: not trained here")
    file = f"backbones/{base.label}.safetensors"
    tensors, about = to_publish(base.ours)
    save_weights(release / file, tensors, portable(about), exact=True)
    return file


def _plain(recipe: Recipe, weights: str, own: Mapping[str, str]) -> dict[str, Any]:
    """Return the plain recipe with the paths that hold within the folder."""
    plain: dict[str, Any] = portable(recipe.to_dict())
    for label, file in own.items():
        plain["backbones"][label]["weights"] = file
    if recipe.train.target == "discriminator":
        plain["sample"]["weights"] = weights
    return plain
