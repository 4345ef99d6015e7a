"""What is done with a discriminator while it is trained."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.training.data import BatchSource
from mmdisco_cli.training.loop import Loss
from mmdisco_cli.training.monitoring.levels import gain_by_level
from mmdisco_cli.training.monitoring.monitor import Probe
from mmdisco_cli.training.monitoring.signs import BY_LEVEL, DISC, GAIN
from mmdisco_cli.training.report import discriminator_results

FEW = (4, 2)
"""Batches of the losses and of the interaction: fewer than at the end, for this is done again and again."""


def discriminator_probe(
    module: nn.Module,
    assembly: Assembly,
    recipe: Recipe,
    heldout: Sequence[tuple[BatchSource, Loss]],
    export: Callable[[Path, Mapping[str, Any]], None],
    preview: Callable[[int], None] | None,
) -> Probe:
    """Return what measures, writes and previews a discriminator.

    `heldout` are held-out tuples with their loss, if there are any. The best weights are those of the highest gain,
    where Eq. (5) is trained, else of the lowest loss of Eq. (4).
    """
    config, window = recipe.train, recipe.sample.window
    best = GAIN if config.lambda_denoise else DISC
    if not heldout or not config.validate_every:
        return Probe(best=best, preview=preview)
    ((real, loss), *_) = heldout

    def measure() -> dict[str, Any]:
        figures = discriminator_results(module, loss, real, assembly, config, FEW)
        return {**figures, BY_LEVEL: gain_by_level(module, assembly, real, config, window)}

    return Probe(measure, best, export, preview)
