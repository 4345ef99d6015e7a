"""What samplers share: their signature, and the formulas of one step.

Notation of DPM-Solver (Lu et al. 2022): a step goes from level s to level t, which is cleaner; lambda is the log-SNR
log(alpha / sigma) and h = lambda_t - lambda_s > 0.
"""

import math
from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor

from mmdisco_cli.diffusion.base_models import Denoiser, Prediction
from mmdisco_cli.diffusion.contract import State
from mmdisco_cli.diffusion.schedules import Levels

Grid = Mapping[str, Levels]
"""Levels (steps + 1,) by modality, from noise to data, on the CPU."""
Noise = Callable[[int, State], State]
"""(number of the draw, states) -> fresh standard normal noise shaped like the states."""
StepCallback = Callable[[int, State, Prediction], None]
"""Called after every evaluation with the index of the interval, the states evaluated, and the prediction."""


class Sampler(Protocol):
    """Take states from the first level of a grid to its last; only stochastic samplers call `noise`."""

    def __call__(
        self,
        denoise: Denoiser,
        state: State,
        grid: Grid,
        noise: Noise | None = None,
        callback: StepCallback | None = None,
    ) -> State:
        """Return the states (B, ...) at the last level."""


def count_steps(grid: Grid) -> int:
    """Return the number of intervals of a grid; raise ValueError where its modalities differ in it."""
    lengths = {m: len(levels.t) for m, levels in grid.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"the modalities' grids differ in length: {lengths}")
    return next(iter(lengths.values())) - 1


def evaluate(denoise: Denoiser, state: State, grid: Grid, step: int, callback: StepCallback | None) -> Prediction:
    """Return the prediction for states at one level of the grid, and call the callback with it."""
    prediction = denoise(state, {m: levels.at(step) for m, levels in grid.items()})
    if callback is not None:
        callback(step, state, prediction)
    return prediction


def alpha_sigma(levels: Levels, step: int) -> tuple[float, float]:
    """Return alpha and sigma at one level of a grid."""
    return float(levels.alpha[step]), float(levels.sigma[step])


def log_snr_at(levels: Levels, step: int) -> float:
    """Return lambda = log(alpha / sigma) at one level of a grid, infinite at its ends."""
    alpha, sigma = alpha_sigma(levels, step)
    return (math.log(alpha) if alpha > 0 else -math.inf) - (math.log(sigma) if sigma > 0 else -math.inf)


def log_snr_rise(levels: Levels, s: int, t: int) -> float:
    """Return h = lambda_t - lambda_s of two levels of a grid."""
    return log_snr_at(levels, t) - log_snr_at(levels, s)


def first_order(prediction: Prediction, modality: str, t: Levels) -> Tensor:
    """Return x_t = alpha_t * x_0 + sigma_t * epsilon: DDIM's step (Song et al. 2021, eq. 12 with sigma = 0)."""
    return float(t.alpha) * prediction.x0[modality] + float(t.sigma) * prediction.epsilon[modality]


def x0_weight(levels: Levels, s: int, t: int) -> float:
    """Return alpha_t * (1 - exp(-h)), the weight of a constant x_0 in the exact solution from s to t."""
    (alpha_s, sigma_s), (alpha_t, sigma_t) = alpha_sigma(levels, s), alpha_sigma(levels, t)
    return alpha_t - alpha_s * sigma_t / sigma_s


def renoised(state: State, grid: Grid, step: int, fresh: State) -> State:
    """Return states at level `step`, drawn by the forward process from states at the next, cleaner level."""
    new = {}
    for m, levels in grid.items():
        (alpha_s, sigma_s), (alpha_t, sigma_t) = alpha_sigma(levels, step), alpha_sigma(levels, step + 1)
        ratio = alpha_s / alpha_t
        new[m] = ratio * state[m] + math.sqrt(max(sigma_s**2 - (ratio * sigma_t) ** 2, 0)) * fresh[m]
    return new
