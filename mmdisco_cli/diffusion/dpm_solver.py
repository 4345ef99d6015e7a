"""DPM-Solver and DPM-Solver++: multistep of order 2 and singlestep of order 3 (Lu et al. 2022), in log-SNR.

All evaluate the denoiser once for each interval of the grid, so samplers of equal steps cost the same. Notation as in
`stepping`.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mmdisco_cli.diffusion.base_models import Denoiser, Prediction
from mmdisco_cli.diffusion.contract import State
from mmdisco_cli.diffusion.schedules import Levels
from mmdisco_cli.diffusion.stepping import (
    Grid,
    Noise,
    StepCallback,
    alpha_sigma,
    count_steps,
    evaluate,
    first_order,
    log_snr_rise,
    x0_weight,
)


@torch.no_grad()
def dpmpp_2m(
    denoise: Denoiser, state: State, grid: Grid, noise: Noise | None = None, callback: StepCallback | None = None
) -> State:
    """Sample with DPM-Solver++ 2M, multistep (arXiv 2211.01095, algorithm 2); of first order to sigma = 0."""
    previous: Prediction | None = None
    for step in range(count_steps(grid)):
        prediction = evaluate(denoise, state, grid, step, callback)
        new = {}
        for m, levels in grid.items():
            new[m] = first_order(prediction, m, levels.at(step + 1))
            if previous is not None:
                ratio = _ratio(levels, (step, step + 1), (step - 1, step))
                difference = prediction.x0[m] - previous.x0[m]
                new[m] = new[m] + x0_weight(levels, step, step + 1) * ratio / 2 * difference
        state, previous = new, prediction
    return state


@torch.no_grad()
def dpmpp_3s(
    denoise: Denoiser, state: State, grid: Grid, noise: Noise | None = None, callback: StepCallback | None = None
) -> State:
    """Sample with DPM-Solver++ 3S, singlestep (arXiv 2211.01095): order 3, lower at the ends of the grid.

    A step of order k spans k intervals of the grid and evaluates the denoiser at the beginning of each.
    """
    return _singlesteps(denoise, state, grid, callback, _x0_correction)


@torch.no_grad()
def dpm_3s(
    denoise: Denoiser, state: State, grid: Grid, noise: Noise | None = None, callback: StepCallback | None = None
) -> State:
    """Sample with DPM-Solver-3, singlestep, which interpolates epsilon (arXiv 2206.00927, algorithm 2).

    The sampler of MM-Diffusion's own script. Orders and evaluations are those of `dpmpp_3s`.
    """
    return _singlesteps(denoise, state, grid, callback, _epsilon_correction)


def singlestep_orders(grid: Grid) -> list[int]:
    """Return the orders of the steps of 3S, which sum to the number of intervals: mostly 3, at the end 2 and 1.

    An interval from alpha = 0 or to sigma = 0 is infinitely long in log-SNR: only a first-order step can take it.
    """
    steps = count_steps(grid)
    head = [1] if any(levels.alpha[0] == 0 for levels in grid.values()) else []
    ends_clean = any(levels.sigma[-1] == 0 for levels in grid.values())
    full, rest = divmod(steps - len(head), 3)
    if ends_clean and rest == 2:
        return [*head, *[3] * full, 1, 1]
    if rest == 0 and full > 0:
        return [*head, *[3] * (full - 1), 2, 1]
    return [*head, *[3] * full, *([rest] if rest else [])]


# (predictions from s on, modality, levels, s, t, order) -> what is added to the first-order step from s to t
_Correction = Callable[[Sequence[Prediction], str, Levels, int, int, int], Tensor]


def _singlesteps(
    denoise: Denoiser, state: State, grid: Grid, callback: StepCallback | None, correction: _Correction
) -> State:
    s = 0
    for order in singlestep_orders(grid):
        predictions: list[Prediction] = []
        intermediate = state
        for t in range(s + 1, s + order + 1):
            predictions.append(evaluate(denoise, intermediate, grid, t - 1, callback))
            intermediate = {
                m: _singlestep(predictions, m, levels, s, t, order, correction) for m, levels in grid.items()
            }
        state, s = intermediate, s + order
    return state


def _singlestep(
    predictions: Sequence[Prediction], m: str, levels: Levels, s: int, t: int, order: int, correction: _Correction
) -> Tensor:
    """Return the state at t from the predictions at s and at the points after it (Lu et al. 2022, sec. 4)."""
    x = first_order(predictions[0], m, levels.at(t))
    latest = s + len(predictions) - 1
    ratio = _ratio(levels, (s, t), (s, latest)) if latest > s else 0.0
    return x if ratio == 0 else x + ratio * correction(predictions, m, levels, s, t, order)


def _x0_correction(predictions: Sequence[Prediction], m: str, levels: Levels, s: int, t: int, order: int) -> Tensor:
    """Return what the change of x_0 adds: of order 2 by the midpoint rule, of order 3 integrated exactly."""
    weight, h = x0_weight(levels, s, t), log_snr_rise(levels, s, t)
    factor = weight / 2 if order == 2 else float(levels.alpha[t]) - weight / h
    return factor * (predictions[-1].x0[m] - predictions[0].x0[m])


def _epsilon_correction(
    predictions: Sequence[Prediction], m: str, levels: Levels, s: int, t: int, order: int
) -> Tensor:
    """Return what the change of epsilon adds: `_x0_correction` with alpha and sigma exchanged and -h for h."""
    (alpha_s, sigma_s), (alpha_t, sigma_t) = alpha_sigma(levels, s), alpha_sigma(levels, t)
    weight, h = sigma_t - alpha_t * sigma_s / alpha_s, log_snr_rise(levels, s, t)
    factor = weight / 2 if order == 2 else sigma_t + weight / h
    return factor * (predictions[-1].epsilon[m] - predictions[0].epsilon[m])


def _ratio(levels: Levels, interval: tuple[int, int], other: tuple[int, int]) -> float:
    """Return how many times as long one interval is as another in log-SNR, 0 where either is infinite or empty."""
    h, h_other = log_snr_rise(levels, *interval), log_snr_rise(levels, *other)
    return h / h_other if 0 < h < math.inf and 0 < h_other < math.inf else 0.0
