"""Which noise levels of the modalities are paired, in training and in sampling.

`index` pairs levels of equal progress u, each model on its own native grid. `logsnr` pairs levels of equal log-SNR:
every model takes that of the first modality of the first model, its native time found by bisection. A discriminator
must be sampled with the coupling that it was trained with.
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Base
from mmdisco_cli.diffusion.schedules import Levels, log_snr

Coupling = Literal["index", "logsnr"]
GIVEN_LOG_SNR = 3.0
_HALVINGS = 48


def coupled_grid(bases: Sequence[Base], steps: int, coupling: Coupling = "index") -> dict[str, Levels]:
    """Return each modality's levels (steps + 1,) on the CPU, from noise to data."""
    own = [base.backbone.grid(steps, base.plan) for base in bases]
    if _is_index(coupling):
        return {m: level for grid in own for m, level in grid.items()}
    target = _first_log_snr(own[0])
    # Each keeps its own last level: where a grid ends at sigma = 0 there is no log-SNR to match.
    matched = [own[0], *(_with_end(_match(base, target), grid) for base, grid in zip(bases[1:], own[1:], strict=True))]
    return {m: level for grid in matched for m, level in grid.items()}


def coupled_levels(bases: Sequence[Base], u: Tensor, coupling: Coupling = "index") -> dict[str, Levels]:
    """Return each modality's levels (B,) for training at progress u (B,) of the first model."""
    if _is_index(coupling):
        return uncoupled_levels(bases, [u] * len(bases))
    reference = bases[0].backbone.levels_at(u, bases[0].plan)
    rest = [_match(base, _first_log_snr(reference)) for base in bases[1:]]
    return {m: level for levels in (reference, *rest) for m, level in levels.items()}


def uncoupled_levels(bases: Sequence[Base], progress: Sequence[Tensor]) -> dict[str, Levels]:
    """Return each modality's levels (B,) with every model at its own progress (B,), not coupled.

    For training a discriminator on pairs that a sampler does not visit, such as a clean modality with a noisy one
    (see `denoise.Given`).
    """
    each = [base.backbone.levels_at(u, base.plan) for base, u in zip(bases, progress, strict=True)]
    return {m: level for levels in each for m, level in levels.items()}


def given_levels(bases: Sequence[Base]) -> dict[str, Levels]:
    """Return the level () that each modality is noised to while it is given (fixed): almost clean, log-SNR 3.

    Not quite clean, so that the noise hides the artefacts of a given file's codec, which training did not have.
    """
    target = torch.tensor([GIVEN_LOG_SNR], dtype=torch.float64)
    return {m: level.at(0) for base in bases for m, level in _match(base, target).items()}


def progress_at(levels_at: Callable[[Tensor], Levels], target: Tensor) -> Tensor:
    """Return the progress u (B,), float64, at which a schedule has the log-SNR target (B,), or its nearest end."""

    def at(u: Tensor) -> Tensor:
        level = levels_at(u)
        return log_snr(level.alpha, level.sigma)

    low, high = torch.zeros_like(target, dtype=torch.float64), torch.ones_like(target, dtype=torch.float64)
    data_end, noise_end = target >= at(low), target <= at(high)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        too_clean = at(middle) > target
        low, high = torch.where(too_clean, middle, low), torch.where(too_clean, high, middle)
    return torch.where(noise_end, 1.0, torch.where(data_end, 0.0, (low + high) / 2))


def _is_index(coupling: Coupling) -> bool:
    if coupling not in get_args(Coupling):
        raise ValueError(f"unknown coupling {coupling!r} (one of {', '.join(get_args(Coupling))})")
    return coupling == "index"


def _first_log_snr(levels: dict[str, Levels]) -> Tensor:
    level = next(iter(levels.values()))
    return log_snr(level.alpha, level.sigma)


def _match(base: Base, target: Tensor) -> dict[str, Levels]:
    """Return a model's levels where its first modality has the log-SNR target; its other modalities follow."""
    first = next(iter(base.modalities))
    u = progress_at(lambda u: base.backbone.levels_at(u, base.plan)[first], target)
    return base.backbone.levels_at(u, base.plan)


def _with_end(levels: dict[str, Levels], own: dict[str, Levels]) -> dict[str, Levels]:
    pairs = {m: zip(levels[m], own[m], strict=True) for m in levels}
    return {m: Levels(*(torch.cat([a[:-1], b[-1:]]) for a, b in pair)) for m, pair in pairs.items()}
