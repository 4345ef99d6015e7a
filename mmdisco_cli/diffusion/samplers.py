"""Samplers: plain functions of one signature over a mapping of modality to state, every modality on its own levels.

A grid holds steps + 1 levels a modality, from noise to data, on the CPU. Each sampler asks the denoiser once for each
interval. The callback hears after every question: the index, the states asked about, the prediction.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal, Protocol

import torch

from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.diffusion.denoise import Denoiser, Prediction
from mmdisco_cli.diffusion.schedules import Levels

ALWAYS = (-math.inf, math.inf)
Grid = Mapping[str, Levels]
Noise = Callable[[int, State], State]
StepCallback = Callable[[int, State, Prediction], None]


class Sampler(Protocol):
    """Take states from the first level of a grid to its last; `noise` is asked by the stochastic ones only."""

    def __call__(
        self,
        denoise: Denoiser,
        state: State,
        grid: Grid,
        noise: Noise | None = None,
        callback: StepCallback | None = None,
    ) -> State:
        """Return the states (B, ...) at the last level."""


@torch.no_grad()
def ddim(
    denoise: Denoiser,
    state: State,
    grid: Grid,
    noise: Noise | None = None,
    callback: StepCallback | None = None,
    joint_steps: int = 1,
    joint_window: tuple[float, float] = ALWAYS,
) -> State:
    """Sample with DDIM, eta = 0 (Song et al. 2021, eq. 12); on a flow model this is Euler's method.

    Steps are taken several times as by `ddpm`: fresh noise in between lets guided modalities agree anew at the levels
    where a pair is decided, without more weight, which would pull each of them away from its own law.
    """
    steps = count_steps(grid)
    if joint_steps > 1 and noise is None:
        raise ValueError("joint_steps above 1 takes fresh noise: pass noise")
    for step in range(steps):
        for again in range(_times(grid, step, joint_steps, joint_window)):
            if again and noise is not None:
                state = renoised(state, grid, step, noise(_again(again, step, steps), state))
            prediction = _ask(denoise, state, grid, step, callback)
            state = {m: _first_order(prediction, m, levels.at(step + 1)) for m, levels in grid.items()}
    return state


@torch.no_grad()
def ddpm(
    denoise: Denoiser,
    state: State,
    grid: Grid,
    noise: Noise | None = None,
    callback: StepCallback | None = None,
    variance: Literal["small", "large"] = "small",
    joint_steps: int = 1,
    joint_window: tuple[float, float] = ALWAYS,
) -> State:
    """Sample by ancestry (Ho et al. 2020, eq. 7), which is DDIM with eta = 1, for any alpha and sigma.

    The fresh noise has the variance of the posterior given x_0 ("small"), or of the forward step ("large"). Every step
    whose log-SNR lies within `joint_window` is taken `joint_steps` times, with the forward process back to its start in
    between (MMDisCo, arXiv 2405.17842).
    """
    if noise is None:
        raise ValueError("ddpm needs fresh noise at every step: pass noise")
    steps = count_steps(grid)
    for step in range(steps):
        for again in range(_times(grid, step, joint_steps, joint_window)):
            if again:
                state = renoised(state, grid, step, noise(_again(again, step, steps), state))
            prediction = _ask(denoise, state, grid, step, callback)
            state = _ancestor(prediction, grid, step, noise(2 * again * steps + step, state), variance)
    return state


@torch.no_grad()
def dpmpp_2m(
    denoise: Denoiser, state: State, grid: Grid, noise: Noise | None = None, callback: StepCallback | None = None
) -> State:
    """Sample with DPM-Solver++ 2M, multistep in log-SNR (Lu et al. 2022, algorithm 2), first order to sigma = 0."""
    before: Prediction | None = None
    for step in range(count_steps(grid)):
        prediction = _ask(denoise, state, grid, step, callback)
        new = {}
        for m, levels in grid.items():
            new[m] = _first_order(prediction, m, levels.at(step + 1))
            if before is not None:
                ratio = _ratio(levels, (step, step + 1), (step - 1, step))
                slope = prediction.x0[m] - before.x0[m]
                new[m] = new[m] + _data_weight(levels, step, step + 1) * ratio / 2 * slope
        state, before = new, prediction
    return state


@torch.no_grad()
def dpmpp_3s(
    denoise: Denoiser, state: State, grid: Grid, noise: Noise | None = None, callback: StepCallback | None = None
) -> State:
    """Sample with DPM-Solver++ 3S, singlestep in log-SNR (Lu et al. 2022): third order, lower where the grid ends.

    A step of order k spans k intervals of the grid and asks at their left ends, so all samplers ask equally often.
    """
    return _singlesteps(denoise, state, grid, callback, _data_slope)


@torch.no_grad()
def dpm_3s(
    denoise: Denoiser, state: State, grid: Grid, noise: Noise | None = None, callback: StepCallback | None = None
) -> State:
    """Sample with DPM-Solver-3, singlestep, which interpolates epsilon (Lu et al. 2022, arXiv 2206.00927, alg. 2).

    MM-Diffusion's own script samples so. Orders and questions are those of `dpmpp_3s`.
    """
    return _singlesteps(denoise, state, grid, callback, _noise_slope)


SAMPLERS: dict[str, Sampler] = {
    "ddim": ddim,
    "ddpm": ddpm,
    "dpmpp_2m": dpmpp_2m,
    "dpmpp_3s": dpmpp_3s,
    "dpm_3s": dpm_3s,
}
REPEATING: dict[str, Callable[..., State]] = {"ddpm": ddpm, "ddim": ddim}
"""Samplers that can noise a step again, because they keep nothing from one step to the next."""


def sampler_of(name: str, joint_steps: int = 1, joint_window: tuple[float, float] = ALWAYS) -> Sampler:
    """Return the sampler of a name; only those of one question a step can take it several times, else ValueError."""
    if joint_steps == 1:
        return SAMPLERS[name]
    if name not in REPEATING:
        raise ValueError(f"joint_steps above 1 takes the sampler {' or '.join(REPEATING)}, not {name}")
    return partial(REPEATING[name], joint_steps=joint_steps, joint_window=joint_window)


def count_steps(grid: Grid) -> int:
    """Return the number of intervals of a grid; raise ValueError when its modalities disagree."""
    lengths = {m: len(levels.t) for m, levels in grid.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"the modalities' grids differ in length: {lengths}")
    return next(iter(lengths.values())) - 1


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


def _ask(denoise: Denoiser, state: State, grid: Grid, step: int, callback: StepCallback | None) -> Prediction:
    prediction = denoise(state, {m: levels.at(step) for m, levels in grid.items()})
    if callback is not None:
        callback(step, state, prediction)
    return prediction


def _times(grid: Grid, step: int, joint_steps: int, window: tuple[float, float]) -> int:
    """Return how often a step is taken: `joint_steps` times if any modality's log-SNR lies within the window."""
    return joint_steps if any(window[0] <= _log_snr(level, step) <= window[1] for level in grid.values()) else 1


def _again(again: int, step: int, steps: int) -> int:
    """Return the number that the noise before a repeated step is asked by: none but the first time has the step's."""
    return (2 * again - 1) * steps + step


def _alpha_sigma(levels: Levels, step: int) -> tuple[float, float]:
    return float(levels.alpha[step]), float(levels.sigma[step])


def _log_snr(levels: Levels, step: int) -> float:
    alpha, sigma = _alpha_sigma(levels, step)
    return (math.log(alpha) if alpha > 0 else -math.inf) - (math.log(sigma) if sigma > 0 else -math.inf)


def _rise(levels: Levels, interval: tuple[int, int]) -> float:
    return _log_snr(levels, interval[1]) - _log_snr(levels, interval[0])


def _ratio(levels: Levels, interval: tuple[int, int], other: tuple[int, int]) -> float:
    """Return how much longer one interval is than another in log-SNR, 0 where that means nothing."""
    h, known = _rise(levels, interval), _rise(levels, other)
    return h / known if 0 < h < math.inf and 0 < known < math.inf else 0.0


def _first_order(prediction: Prediction, modality: str, there: Levels) -> torch.Tensor:
    return float(there.alpha) * prediction.x0[modality] + float(there.sigma) * prediction.epsilon[modality]


def _data_weight(levels: Levels, start: int, target: int) -> float:
    """Return alpha' * (1 - exp(-h)), the weight of x_0 in the exact solution for a constant x_0."""
    (a, s), (a1, s1) = _alpha_sigma(levels, start), _alpha_sigma(levels, target)
    return a1 - a * s1 / s


def _ancestor(
    prediction: Prediction, grid: Grid, step: int, fresh: State, variance: Literal["small", "large"]
) -> State:
    """Return states drawn at the level after `step` from what is thought of those at `step`."""
    new = {}
    for m, levels in grid.items():
        (a, s), (a1, s1) = _alpha_sigma(levels, step), _alpha_sigma(levels, step + 1)
        kept = a * s1 / (a1 * s)  # exp(-h), h the rise in log-SNR
        std = s1 * math.sqrt(max(1 - kept**2, 0))
        if variance == "large":
            std *= s / s1 if s1 > 0 else 0
        new[m] = a1 * prediction.x0[m] + s1 * kept * prediction.epsilon[m] + std * fresh[m]
    return new


def renoised(state: State, grid: Grid, step: int, fresh: State) -> State:
    """Return states drawn by the forward process at `step` from those at the level after it."""
    new = {}
    for m, levels in grid.items():
        (a, s), (a1, s1) = _alpha_sigma(levels, step), _alpha_sigma(levels, step + 1)
        kept = a / a1
        new[m] = kept * state[m] + math.sqrt(max(s**2 - (kept * s1) ** 2, 0)) * fresh[m]
    return new


# (predictions, modality, levels, start, target, order) -> how much is added to the step of first order
_Slope = Callable[[list[Prediction], str, Levels, int, int, int], torch.Tensor]


def _singlesteps(denoise: Denoiser, state: State, grid: Grid, callback: StepCallback | None, slope: _Slope) -> State:
    start = 0
    for order in singlestep_orders(grid):
        asked: list[Prediction] = []
        inner = state
        for target in range(start + 1, start + order + 1):
            asked.append(_ask(denoise, inner, grid, target - 1, callback))
            inner = {m: _singlestep(asked, m, levels, start, target, order, slope) for m, levels in grid.items()}
        state, start = inner, start + order
    return state


def _singlestep(
    asked: list[Prediction], m: str, levels: Levels, start: int, target: int, order: int, slope: _Slope
) -> torch.Tensor:
    """Return the state at `target` from the predictions at `start` and the points after it (Lu et al. 2022, sec. 4)."""
    x = _first_order(asked[0], m, levels.at(target))
    latest = start + len(asked) - 1
    ratio = _ratio(levels, (start, target), (start, latest)) if latest > start else 0.0
    return x if ratio == 0 else x + ratio * slope(asked, m, levels, start, target, order)


def _data_slope(asked: list[Prediction], m: str, levels: Levels, start: int, target: int, order: int) -> torch.Tensor:
    """Return what the slope of x_0 adds: order 2 is the midpoint rule, within order 3 it is integrated exactly."""
    weight, h = _data_weight(levels, start, target), _rise(levels, (start, target))
    kept = weight / 2 if order == 2 else float(levels.alpha[target]) - weight / h
    return kept * (asked[-1].x0[m] - asked[0].x0[m])


def _noise_slope(asked: list[Prediction], m: str, levels: Levels, start: int, target: int, order: int) -> torch.Tensor:
    """Return what the slope of epsilon adds: `_data_slope` with alpha for sigma, and log-SNR falling."""
    (a, s), (a1, s1) = _alpha_sigma(levels, start), _alpha_sigma(levels, target)
    weight, h = s1 - a1 * s / a, _rise(levels, (start, target))
    kept = weight / 2 if order == 2 else s1 + weight / h
    return kept * (asked[-1].epsilon[m] - asked[0].epsilon[m])
