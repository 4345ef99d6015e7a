"""Samplers: plain functions of one signature over a mapping of modality to state, every modality on its own levels.

A grid holds steps + 1 levels a modality, from noise to data, on the CPU. Each sampler evaluates the denoiser once for
each interval, and calls the callback after every evaluation with the index, the states evaluated and the prediction.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch

from mmdisco_cli.diffusion.base_models import Denoiser, Prediction
from mmdisco_cli.diffusion.contract import State
from mmdisco_cli.diffusion.dpm_solver import dpm_3s, dpmpp_2m, dpmpp_3s, singlestep_orders
from mmdisco_cli.diffusion.stepping import (
    Grid,
    Noise,
    Sampler,
    StepCallback,
    alpha_sigma,
    count_steps,
    evaluate,
    first_order,
    log_snr_at,
    renoised,
)

__all__ = [
    "ALWAYS",
    "REPEATING",
    "SAMPLERS",
    "Grid",
    "Noise",
    "Sampler",
    "StepCallback",
    "count_steps",
    "ddim",
    "ddpm",
    "dpm_3s",
    "dpmpp_2m",
    "dpmpp_3s",
    "renoised",
    "sampler_of",
    "singlestep_orders",
]

ALWAYS = (-math.inf, math.inf)


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

    Steps are repeated as by `ddpm`: with fresh noise in between, guided modalities get several chances to agree at the
    levels where a pair is decided, without a larger weight, which would distort the distribution of each.

    Raises:
        ValueError: `joint_steps` above 1 without `noise`.
    """
    steps = count_steps(grid)
    if joint_steps > 1 and noise is None:
        raise ValueError("joint_steps above 1 takes fresh noise: pass noise")
    for step in range(steps):
        for repeat in range(_repeats(grid, step, joint_steps, joint_window)):
            if repeat and noise is not None:
                state = renoised(state, grid, step, noise(_renoising_draw(repeat, step, steps), state))
            prediction = evaluate(denoise, state, grid, step, callback)
            state = {m: first_order(prediction, m, levels.at(step + 1)) for m, levels in grid.items()}
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
    """Sample ancestrally (Ho et al. 2020, eq. 7), which is DDIM with eta = 1, for any alpha and sigma.

    The fresh noise has the variance of the posterior given x_0 ("small") or of the forward step ("large"). Every step
    whose log-SNR lies within `joint_window` is taken `joint_steps` times, with the forward process back to its start in
    between (MMDisCo, arXiv 2405.17842).

    Raises:
        ValueError: without `noise`.
    """
    if noise is None:
        raise ValueError("ddpm needs fresh noise at every step: pass noise")
    steps = count_steps(grid)
    for step in range(steps):
        for repeat in range(_repeats(grid, step, joint_steps, joint_window)):
            if repeat:
                state = renoised(state, grid, step, noise(_renoising_draw(repeat, step, steps), state))
            prediction = evaluate(denoise, state, grid, step, callback)
            state = _posterior_sample(prediction, grid, step, noise(2 * repeat * steps + step, state), variance)
    return state


SAMPLERS: dict[str, Sampler] = {
    "ddim": ddim,
    "ddpm": ddpm,
    "dpmpp_2m": dpmpp_2m,
    "dpmpp_3s": dpmpp_3s,
    "dpm_3s": dpm_3s,
}
REPEATING: dict[str, Callable[..., State]] = {"ddpm": ddpm, "ddim": ddim}
"""Samplers that can repeat a step, because they keep nothing from one step to the next."""


def sampler_of(name: str, joint_steps: int = 1, joint_window: tuple[float, float] = ALWAYS) -> Sampler:
    """Return the sampler of a name in SAMPLERS, repeating steps as `ddpm` says.

    Raises:
        ValueError: `joint_steps` above 1 for a sampler that cannot repeat a step.
    """
    if joint_steps == 1:
        return SAMPLERS[name]
    if name not in REPEATING:
        raise ValueError(f"joint_steps above 1 takes the sampler {' or '.join(REPEATING)}, not {name}")
    return partial(REPEATING[name], joint_steps=joint_steps, joint_window=joint_window)


def _repeats(grid: Grid, step: int, joint_steps: int, window: tuple[float, float]) -> int:
    """Return how often a step is taken: `joint_steps` times if any modality's log-SNR lies within the window."""
    return joint_steps if any(window[0] <= log_snr_at(level, step) <= window[1] for level in grid.values()) else 1


def _renoising_draw(repeat: int, step: int, steps: int) -> int:
    """Return the number of the noise draw before a repeated step; draw `step` is that of the step's first time."""
    return (2 * repeat - 1) * steps + step


def _posterior_sample(
    prediction: Prediction, grid: Grid, step: int, fresh: State, variance: Literal["small", "large"]
) -> State:
    """Return states drawn at the level after `step`, given the prediction at `step` (Ho et al. 2020, eq. 7)."""
    new = {}
    for m, levels in grid.items():
        (alpha_s, sigma_s), (alpha_t, sigma_t) = alpha_sigma(levels, step), alpha_sigma(levels, step + 1)
        decay = alpha_s * sigma_t / (alpha_t * sigma_s)  # exp(-h), h the rise in log-SNR
        std = sigma_t * math.sqrt(max(1 - decay**2, 0))
        if variance == "large":
            std *= sigma_s / sigma_t if sigma_t > 0 else 0
        new[m] = alpha_t * prediction.x0[m] + sigma_t * decay * prediction.epsilon[m] + std * fresh[m]
    return new
