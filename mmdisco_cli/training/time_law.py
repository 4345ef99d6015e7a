"""The law of the noise levels that training draws."""

from collections.abc import Callable

import torch
from torch import Tensor

from mmdisco_cli.diffusion.schedules import Levels, log_snr
from mmdisco_cli.recipes.schema import LevelDistributionConfig

Law = Callable[[Tensor], Levels]


def draw_progress(law: LevelDistributionConfig, levels_at: Law, batch: int, generator: torch.Generator) -> Tensor:
    """Return progress u (B,) in [0, 1], stratified over the batch so that a step sees every part of the schedule.

    Under the `logsnr-normal` law the log-SNR of `levels_at` is normal; it is inverted on a fine grid of u.
    """
    strata = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
    strata = strata[torch.randperm(batch, generator=generator)]
    if law.name == "uniform":
        return strata
    wanted = law.mean + law.std * torch.special.ndtri(strata.double().clamp(1e-6, 1 - 1e-6))
    u = torch.linspace(0, 1, 4097, dtype=torch.float64)
    levels = levels_at(u)
    return _interpolate(wanted, log_snr(levels.alpha, levels.sigma).double().flip(0), u.flip(0)).float()


def _interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Return y(x) on the polyline through (xs, ys), `xs` ascending; constant beyond its ends."""
    right = torch.searchsorted(xs, x).clamp(1, len(xs) - 1)
    share = ((x - xs[right - 1]) / (xs[right] - xs[right - 1]).clamp_min(1e-12)).clamp(0, 1)
    return ys[right - 1] + share * (ys[right] - ys[right - 1])
