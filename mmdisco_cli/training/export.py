"""Trained weights as files that say what they are, without any optimiser's state."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.backbones.token import TokenBackbone, codec_fingerprint
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.recipes.schema import Recipe, to_plain
from mmdisco_cli.run.environment import versions
from mmdisco_cli.training.identity import training_fingerprint
from mmdisco_cli.training.metrics import not_finite
from mmdisco_cli.weights_file import save_weights


@torch.no_grad()
def round_to_file(module: nn.Module) -> None:
    """Round the weights to the half precision of a weights file, so that what is measured is what is kept.

    Raises:
        DataError: a weight is beyond it.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            rounded = tensor.half().to(tensor.dtype)
            if not bool(rounded.isfinite().all()):
                raise DataError(f"training diverged: {name} is beyond half precision")
            tensor.copy_(rounded)


def export_backbone(backbone: TokenBackbone, recipe: Recipe, path: Path, results: Mapping[str, Any]) -> None:
    """Write a trained base model to `path`, rounding it in place.

    Raises:
        DataError: the file cannot be written.
    """
    round_to_file(backbone.module)
    options = {key: value for key, value in to_plain(backbone.options).items() if key != "weights"}
    about = {
        "kind": "backbone",
        "modality": backbone.modality,
        "options": options,
        "request": asdict(backbone.request),
        "codec": codec_fingerprint(backbone),
        **_provenance(recipe, results),
    }
    save_weights(path, backbone.module.state_dict(), about)


def export_discriminator(
    module: nn.Module, assembly: Assembly, recipe: Recipe, path: Path, results: Mapping[str, Any]
) -> None:
    """Write a trained discriminator to `path`, rounding it in place; errors as for `export_backbone`."""
    if recipe.discriminator is None:
        raise UsageError(f"recipe {recipe.name} has no discriminator")
    round_to_file(module)
    about = {
        "kind": "discriminator",
        "name": recipe.discriminator.spec.name,
        "options": to_plain(recipe.discriminator.options),
        "shapes": {m: list(shape) for m, shape in assembly.shapes.items()},
        "coupling": assembly.coupling,
        "backbones": assembly.fingerprints,
        "given_fraction": recipe.train.given_fraction if len(assembly.models) > 1 else 0.0,
        **_provenance(recipe, results),
    }
    save_weights(path, module.state_dict(), about)


def _provenance(recipe: Recipe, results: Mapping[str, Any]) -> dict[str, Any]:
    if bad := not_finite(results):
        raise DataError(f"training diverged: {bad} of the trained weights is not finite")
    return {
        "recipe": recipe.to_dict(),
        "fingerprint": training_fingerprint(recipe),
        "steps": recipe.train.steps,
        "results": dict(results),
        "versions": versions(),
    }
