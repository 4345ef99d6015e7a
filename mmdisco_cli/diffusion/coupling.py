"""Which noise levels of the modalities are paired, in training and in sampling.

`index` pairs levels of equal progress u, each model on its own native grid. `logsnr` pairs levels of equal log-SNR:
every model takes that of the first modality of the first model, its native time found by bisection. A shift moves a
modality away from there, so that it is decided later (or earlier) than its partner. A discriminator must be sampled
with the coupling that it was trained with.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Base
from mmdisco_cli.diffusion.schedules import Levels, log_snr

CouplingName = Literal["index", "logsnr"]
GIVEN_LOG_SNR = 3.0
_HALVINGS = 48


@dataclass(frozen=True)
class Coupling:
    """The pairing of noise levels, and a shift added to the log-SNR of each modality; one below 0 lags behind.

    The modalities of one model move together, by the shift of the first of them that has one.
    """

    name: CouplingName = "index"
    shift: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ValueError for an unknown name."""
        if self.name not in get_args(CouplingName):
            raise ValueError(f"unknown coupling {self.name!r} (one of {', '.join(get_args(CouplingName))})")

    def __str__(self) -> str:
        """Return the text stored in files of discriminators."""
        return ", ".join([self.name, *(f"{m} {shift:+g}" for m, shift in sorted(self.shift.items()) if shift)])

    def of(self, base: Base) -> float:
        """Return the shift of a model's log-SNR."""
        return next((self.shift[m] for m in base.modalities if m in self.shift), 0.0)


INDEX = Coupling()


def coupled_grid(bases: Sequence[Base], steps: int, coupling: Coupling = INDEX) -> dict[str, Levels]:
    """Return each modality's levels (steps + 1,) on the CPU, from noise to data."""
    own = [base.backbone.grid(steps, base.plan) for base in bases]
    matched = [
        _moved(base, grid, grid if coupling.name == "index" else own[0], coupling.of(base))
        for base, grid in zip(bases, own, strict=True)
    ]
    return {m: level for grid in matched for m, level in grid.items()}


def _moved(base: Base, own: dict[str, Levels], reference: dict[str, Levels], shift: float) -> dict[str, Levels]:
    """Return a model's grid at the log-SNR of a reference, shifted; its own one where that is the same."""
    if reference is own and not shift:
        return own
    u = _progress_of(base, _first_log_snr(reference))
    moved = _warped(u, shift)
    moved[0] = torch.maximum(moved[0], u[0])  # what is sampled begins as noise
    # Each keeps its own last level: where a grid ends at sigma = 0 there is no log-SNR to match.
    return _with_end(base.backbone.levels_at(moved, base.plan), own)


def coupled_levels(bases: Sequence[Base], u: Tensor, coupling: Coupling = INDEX) -> dict[str, Levels]:
    """Return each modality's levels (B,) for training at progress u (B,) of the first model, before it is shifted."""
    progress = [u] * len(bases)
    if coupling.name == "logsnr":
        target = _first_log_snr(bases[0].backbone.levels_at(u, bases[0].plan))
        progress = [u, *(_progress_of(base, target) for base in bases[1:])]
    return uncoupled_levels(bases, [_warped(u, coupling.of(base)) for base, u in zip(bases, progress, strict=True)])


def _warped(u: Tensor, shift: float) -> Tensor:
    """Return the progress (B,) whose log-SNR is by `shift` that of u (B,), on a cosine schedule exactly.

    There log(alpha / sigma) is -log tan(pi u / 2) (Hoogeboom et al. 2023, arXiv 2301.11093); on all schedules 0 and 1
    stay, so that every model still goes from noise to data.
    """
    if not shift:
        return u
    return torch.atan(math.exp(-shift) * torch.tan(u.double() * (math.pi / 2))).mul(2 / math.pi).to(u.dtype)


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


def _first_log_snr(levels: dict[str, Levels]) -> Tensor:
    level = next(iter(levels.values()))
    return log_snr(level.alpha, level.sigma)


def _match(base: Base, target: Tensor) -> dict[str, Levels]:
    """Return a model's levels where its first modality has the log-SNR target; its other modalities follow."""
    return base.backbone.levels_at(_progress_of(base, target), base.plan)


def _progress_of(base: Base, target: Tensor) -> Tensor:
    """Return the progress at which a model's first modality has the log-SNR target."""
    first = next(iter(base.modalities))
    return progress_at(lambda u: base.backbone.levels_at(u, base.plan)[first], target)


def _with_end(levels: dict[str, Levels], own: dict[str, Levels]) -> dict[str, Levels]:
    pairs = {m: zip(levels[m], own[m], strict=True) for m in levels}
    return {m: Levels(*(torch.cat([a[:-1], b[-1:]]) for a, b in pair)) for m, pair in pairs.items()}
