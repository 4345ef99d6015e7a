"""Noise schedules: short functions that return the native time, alpha and sigma of x_u = alpha * x_0 + sigma * epsilon.

Progress u runs from 0 (data) to 1 (noise). Everything is computed in float64 and handed out in float32.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor

Spacing = Literal["leading", "trailing", "linspace", "logsnr"]
FlowSpacing = Literal["trailing", "linspace"]
MAX_LOG_SNR = 20.0


class Levels(NamedTuple):
    """Native times, alphas and sigmas of noise levels: three tensors of one shape, (), (B,) or (steps + 1,)."""

    t: Tensor
    alpha: Tensor
    sigma: Tensor

    def at(self, index: int) -> "Levels":
        """Return the level at one position of a grid, as scalars."""
        return Levels(self.t[index], self.alpha[index], self.sigma[index])


@dataclass(frozen=True)
class Schedule:
    """The noise levels of training, and the grids of sampling.

    `levels_at(u)` maps progress u (B,) in [0, 1] to levels (B,), log-SNR never rising with u. `grid(steps)` gives
    steps + 1 levels from noise to data; no model is evaluated at the last one, whose sigma is 0 unless the schedule
    says otherwise.
    """

    name: str
    levels_at: Callable[[Tensor], Levels]
    grid: Callable[[int], Levels]


def log_snr(alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return log(alpha / sigma), kept within +-20 so that the ends of a schedule stay finite."""
    tiny = torch.finfo(alpha.dtype).tiny
    value = alpha.clamp(min=tiny).log() - sigma.clamp(min=tiny).log()
    return value.clamp(-MAX_LOG_SNR, MAX_LOG_SNR)


def _levels(t: Tensor, alpha: Tensor, sigma: Tensor) -> Levels:
    return Levels(t.float(), alpha.float(), sigma.float())


def _require_known(value: str, kind: object) -> None:
    if value not in get_args(kind):
        raise ValueError(f"unknown spacing {value!r} (one of {', '.join(get_args(kind))})")


def _require_steps(steps: int, most: float = math.inf) -> None:
    if not 1 <= steps <= most:
        raise ValueError(f"steps must lie between 1 and {most}, not {steps}")


def cosine() -> Schedule:
    """Return the continuous variance-preserving schedule alpha = cos(pi u / 2), sigma = sin(pi u / 2), t = u."""

    def levels_at(u: Tensor) -> Levels:
        angle = u.double() * (math.pi / 2)
        # The sine of the complement, because cos(pi / 2) is not exactly 0 in floating point.
        return _levels(u, torch.sin(math.pi / 2 - angle), torch.sin(angle))

    def grid(steps: int) -> Levels:
        _require_steps(steps)
        return levels_at(torch.linspace(1, 0, steps + 1, dtype=torch.float64))

    return Schedule("cosine", levels_at, grid)


def betas_linear(start: float = 1e-4, end: float = 0.02, train_steps: int = 1000) -> Tensor:
    """Return the betas (train_steps,) of DDPM, evenly spaced (Ho et al. 2020)."""
    return torch.linspace(start, end, train_steps, dtype=torch.float64)


def betas_scaled_linear(start: float = 0.00085, end: float = 0.012, train_steps: int = 1000) -> Tensor:
    """Return the betas (train_steps,) of latent diffusion, evenly spaced in their square root (Rombach et al. 2022)."""
    return torch.linspace(math.sqrt(start), math.sqrt(end), train_steps, dtype=torch.float64).square()


def betas_cosine(train_steps: int = 1000, offset: float = 0.008, most: float = 0.999) -> Tensor:
    """Return the betas (train_steps,) of the discrete cosine schedule (Nichol and Dhariwal 2021, eq. 17)."""
    edges = torch.linspace(0, 1, train_steps + 1, dtype=torch.float64)
    kept = torch.cos((edges + offset) / (1 + offset) * (math.pi / 2)).square()
    return (1 - kept[1:] / kept[:-1]).clamp(max=most)


def spaced_times(steps: int, train_steps: int, spacing: Spacing = "leading", steps_offset: int = 0) -> Tensor:
    """Return the integer training times (steps,) to sample at, falling (Lin et al. 2023, table 2)."""
    _require_known(spacing, Spacing)
    if spacing == "logsnr":
        raise ValueError("uniform steps in log-SNR lie between integer times: use log_snr_grid")
    _require_steps(steps, train_steps)
    if spacing == "leading":
        times = torch.arange(steps - 1, -1, -1) * (train_steps // steps) + steps_offset
    elif spacing == "trailing":
        times = (train_steps - torch.arange(steps, dtype=torch.float64) * (train_steps / steps)).round().long() - 1
    else:
        # steps = 1 takes the noise end; a plain linspace from 0 upwards would leave only the data end.
        times = torch.linspace(train_steps - 1, 0, steps, dtype=torch.float64).round().long()
    return times.clamp(max=train_steps - 1)


def log_snr_grid(betas: Tensor, steps: int) -> Levels:
    """Return the levels (steps + 1,) uniform in log-SNR from the last to the first that were trained with betas (T,).

    Between trained levels log alpha is linear in time, as in DPM-Solver (Lu et al. 2022, appendix D.4); the native
    time is the integer one below. The grid ends at the first trained level: MM-Diffusion leaves that noise in.
    """
    kept = (1 - betas.double()).cumprod(0)
    log_alphas, lams = kept.log() / 2, (kept.log() - torch.log1p(-kept)) / 2
    _require_steps(steps)
    lam = torch.linspace(lams[-1].item(), lams[0].item(), steps + 1, dtype=torch.float64)
    alpha, sigma = torch.sigmoid(2 * lam).sqrt(), torch.sigmoid(-2 * lam).sqrt()
    right = torch.searchsorted(-log_alphas, -alpha.log()).clamp(1, len(kept) - 1)
    part = (alpha.log() - log_alphas[right - 1]) / (log_alphas[right] - log_alphas[right - 1])
    # A trained level keeps its own time: rounding must not move it to the one before.
    return _levels((right - 1 + part.clamp(0, 1) + 1e-3).floor(), alpha, sigma)


def discrete_vp(
    betas: Tensor, spacing: Spacing = "leading", steps_offset: int = 0, end_at_zero: bool = True, name: str = "vp"
) -> Schedule:
    """Return the variance-preserving schedule of discretely trained models, whose native times are integers.

    `betas` (T,) as trained. `end_at_zero=False` ends the grid on the first trained level instead of sigma = 0, which
    the spacing "logsnr" always does (see `log_snr_grid`).
    """
    kept = (1 - betas.double()).cumprod(0)
    alphas, sigmas = kept.sqrt(), (1 - kept).sqrt()

    def levels_at(u: Tensor) -> Levels:
        index = (u.double() * (len(alphas) - 1)).round().long()
        return _levels(index, alphas.to(u.device)[index], sigmas.to(u.device)[index])

    def grid(steps: int) -> Levels:
        if spacing == "logsnr":
            return log_snr_grid(betas, steps)
        times = spaced_times(steps, len(alphas), spacing, steps_offset)
        last = (times.new_zeros(1), alphas.new_ones(1), alphas.new_zeros(1))
        if not end_at_zero:
            last = (times.new_zeros(1), alphas[:1], sigmas[:1])
        return _levels(*(torch.cat(pair) for pair in zip((times, alphas[times], sigmas[times]), last, strict=True)))

    return Schedule(name, levels_at, grid)


def flow(shift: float = 1.0, spacing: FlowSpacing = "trailing", train_steps: int = 1000) -> Schedule:
    """Return the rectified-flow schedule alpha = 1 - s, sigma = s, t = train_steps * s, with s shifted towards noise.

    `spacing="trailing"` takes s = 1, 1 - 1/n, ..., 1/n before shifting; "linspace" ends on the smallest trained s, as
    diffusers does when it gets only a number of steps. The shift is eq. 23 of Esser et al. 2024.
    """
    _require_known(spacing, FlowSpacing)

    def shifted(s: Tensor) -> Tensor:
        return shift * s / (1 + (shift - 1) * s)

    def levels_at(u: Tensor) -> Levels:
        s = shifted(u.double())
        return _levels(s * train_steps, 1 - s, s)

    def grid(steps: int) -> Levels:
        _require_steps(steps)
        last = (
            1 / steps if spacing == "trailing" else shifted(torch.tensor(1 / train_steps, dtype=torch.float64)).item()
        )
        noisy = torch.linspace(1, last, steps, dtype=torch.float64)
        return levels_at(torch.cat([noisy, noisy.new_zeros(1)]))

    return Schedule("flow", levels_at, grid)


def edm(sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> Schedule:
    """Return the variance-exploding schedule of EDM: alpha = 1, t = log(sigma) / 4 (Karras et al. 2022, eq. 5)."""

    def levels_at(u: Tensor) -> Levels:
        low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
        sigma = (low + u.double() * (high - low)) ** rho
        return _levels(sigma.log() / 4, torch.ones_like(sigma), sigma)

    def grid(steps: int) -> Levels:
        _require_steps(steps)
        t, alpha, sigma = levels_at(torch.linspace(1, 0, steps, dtype=torch.float64))
        # The time of sigma = 0 would be -inf; no model is evaluated there, so the last finite one is repeated.
        return Levels(torch.cat([t, t[-1:]]), torch.cat([alpha, alpha[-1:]]), torch.cat([sigma, sigma.new_zeros(1)]))

    return Schedule("edm", levels_at, grid)


# By name: the betas of discretely trained models, and the offset of their leading times.
TRAINED: dict[str, tuple[Callable[[], Tensor], int]] = {
    "vp-linear": (betas_linear, 0),
    "vp-scaled-linear": (betas_scaled_linear, 1),
    "vp-cosine": (betas_cosine, 0),
    "vp-audioldm": (partial(betas_scaled_linear, 0.0015, 0.0195), 1),
    # As MMDisCo samples it; VideoCrafter2 itself was trained with scaled linear betas.
    "vp-videocrafter2": (partial(betas_linear, 0.00085, 0.012), 1),
}


def trained_schedule(name: str, spacing: Spacing = "leading") -> Schedule:
    """Return the schedule of discretely trained models by name, one of TRAINED, with this spacing of its grid."""
    if name not in TRAINED:
        raise ValueError(f"unknown schedule {name!r} (one of {', '.join(TRAINED)})")
    betas, offset = TRAINED[name]
    return discrete_vp(betas(), spacing, offset, name=name)


SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "cosine": cosine,
    **{name: partial(trained_schedule, name) for name in TRAINED},
    "flow": flow,
    "edm": edm,
}


def make_schedule(name: str) -> Schedule:
    """Return the schedule of this name with its published constants; raise ValueError for a name not in SCHEDULES."""
    if name not in SCHEDULES:
        raise ValueError(f"unknown schedule {name!r} (one of {', '.join(SCHEDULES)})")
    return SCHEDULES[name]()
