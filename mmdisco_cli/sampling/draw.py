"""Noise to latents for one batch of samples: the whole of joint sampling, without any file."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.diffusion.backbone import Base, Condition, State
from mmdisco_cli.diffusion.coupling import coupled_grid, given_levels
from mmdisco_cli.diffusion.denoise import Given, Prediction, make_denoiser, verdict
from mmdisco_cli.diffusion.guidance import Form, Guidance, Window
from mmdisco_cli.diffusion.noise import StepNoise, initial_noise, initial_state
from mmdisco_cli.diffusion.prediction import add_noise
from mmdisco_cli.diffusion.samplers import Grid, StepCallback, sampler_of
from mmdisco_cli.diffusion.schedules import log_snr
from mmdisco_cli.diffusion.whole import Run, run_whole, runs_whole
from mmdisco_cli.recipe_schema import SampleConfig


@dataclass(frozen=True)
class Drawn:
    """Final latents (B, ...) by modality, and the discriminator's last logit (B,) where there is a discriminator.

    Models that are run whole give media instead, which their `decode` leaves as they are.
    """

    latents: State
    logit: Tensor | None


def draw(
    assembly: Assembly,
    config: SampleConfig,
    seed: int,
    indices: Sequence[int],
    *,
    prompts: Sequence[str] = (),
    given: Mapping[str, Tensor] | None = None,
    independent: bool = False,
    on_step: Callable[[int], None] | None = None,
) -> Drawn:
    """Sample the latents of `indices`, each from noise of its own, with `prompts` one a sample or none.

    `given` holds clean latents (B, ...) of modalities to be held. `independent` leaves guidance out, with the same
    noise. `on_step` hears the number of each step taken, from 1 on, and may raise to stop.
    """
    assembly = assembly.keyed(seed, indices)
    guidance = _guidance(assembly, config, independent)
    texts = prompts or [""] * len(indices)
    if runs_whole(assembly.backbones.values()):
        run = Run(texts, config.steps, config.cfg, guidance, on_step or (lambda step: None))
        return Drawn(*run_whole(assembly.backbones, assembly.plans, run))
    bases = assembly.bases(texts)
    grid = coupled_grid(bases, config.steps, assembly.coupling)
    held = _held(given, assembly, bases, seed, indices) if given else None
    denoise = make_denoiser(bases, guidance, config.cfg, assembly.dtype, held, config.threshold)
    judge = _Judge(assembly, bases, held, last_inside(grid, config.window), grid)
    first = {m: levels.at(0) for m, levels in grid.items()}
    state = initial_state(seed, indices, assembly.shapes, first, assembly.device)
    callback = _callbacks(judge, on_step)
    sampler = sampler_of(config.sampler, config.joint_steps, config.joint_window)
    latents = sampler(denoise, state, grid, StepNoise(seed, indices), callback)
    return Drawn(latents, judge.logit)


def last_inside(grid: Grid, window: Window) -> int | None:
    """Return the last step at which any modality's log-SNR lies inside the window, None where there is none."""
    low, high = window
    inside = [(low <= lam) & (lam <= high) for lam in (log_snr(g.alpha, g.sigma)[:-1] for g in grid.values())]
    steps = torch.stack(inside).any(0).nonzero()
    return int(steps[-1]) if len(steps) else None


@dataclass
class _Judge:
    """Hear the logit at one step: what guidance has computed there anyway, or asked for once where nothing guides."""

    assembly: Assembly
    bases: Sequence[Base]
    held: Given | None
    step: int | None
    grid: Grid
    logit: Tensor | None = None

    def __call__(self, step: int, state: State, prediction: Prediction) -> None:
        if step == self.step:
            self.logit = prediction.logit if prediction.logit is not None else self._ask(step, state)

    def _ask(self, step: int, state: State) -> Tensor | None:
        if self.assembly.discriminator is None:
            return None
        levels = {m: whole.at(step) for m, whole in self.grid.items()}
        if self.held is not None:
            levels |= self.held.levels
            noise = self.held.noise
            state = state | {
                m: add_noise(x, noise[m], levels[m].alpha, levels[m].sigma) for m, x in self.held.clean.items()
            }
        conditions: dict[str, Condition] = {m: c for base in self.bases for m, c in base.conditions.items()}
        pooled = {m: c.pooled for m, c in conditions.items() if c.pooled is not None}
        dtype = self.assembly.dtype
        with torch.no_grad(), torch.autocast(self.assembly.device.type, dtype, enabled=dtype != torch.float32):
            return verdict(self.assembly.discriminator.module, self.bases, state, levels, pooled or None)


def _guidance(assembly: Assembly, config: SampleConfig, independent: bool) -> Guidance | None:
    if independent or assembly.discriminator is None:
        return None
    windows = dict.fromkeys(assembly.shapes, config.window)
    return Guidance(assembly.discriminator.module, config.guidance, windows, cast(Form, config.guidance_form))


def _held(
    given: Mapping[str, Tensor], assembly: Assembly, bases: Sequence[Base], seed: int, indices: Sequence[int]
) -> Given:
    """Hold latents under the very noise that their samples would have begun with.

    A discriminator that was trained on almost clean partners sees them so, which samples the conditional law; any other
    sees them at the sampler's own level, the only pairing that it knows.
    """
    clean = {m: x.to(assembly.device).float() for m, x in given.items()}
    noise = {m: torch.stack([initial_noise(seed, i, m, x.shape[1:]) for i in indices]) for m, x in clean.items()}
    knows = assembly.discriminator is not None and assembly.discriminator.about.get("given_fraction", 0) > 0
    # A model of several modalities takes them at one level: held almost clean are only whole models.
    whole = [base for base in bases if base.modalities.keys() <= clean.keys()] if knows else []
    levels = given_levels(whole)
    return Given(clean, {m: x.to(assembly.device) for m, x in noise.items()}, levels)


def _callbacks(judge: StepCallback, on_step: Callable[[int], None] | None) -> StepCallback:
    def callback(step: int, state: State, prediction: Prediction) -> None:
        judge(step, state, prediction)
        if on_step is not None:
            on_step(step + 1)

    return callback
