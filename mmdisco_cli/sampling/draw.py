"""Joint sampling of one batch, from noise to latents, without any file."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.assembly.models import Prompts
from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.diffusion.coupling import coupled_grid, given_levels
from mmdisco_cli.diffusion.denoise import Given, JointDenoiser, Prediction
from mmdisco_cli.diffusion.fixed import beside_fixed
from mmdisco_cli.diffusion.guidance import Form, Guidance, LogSNRWindow
from mmdisco_cli.diffusion.noise import StepNoise, initial_noise, initial_state
from mmdisco_cli.diffusion.samplers import Grid, StepCallback, sampler_of
from mmdisco_cli.diffusion.schedules import log_snr
from mmdisco_cli.diffusion.whole import Run, run_whole, runs_whole
from mmdisco_cli.errors import UsageError
from mmdisco_cli.recipes.schema import SampleConfig

Watch = Callable[[int, State, State], None]
"""Called with the number of a step, and by modality the states and the x_0 (B, ...) of its prediction."""


@dataclass(frozen=True)
class Drawn:
    """Final latents (B, ...) by modality, and the last logit (B,) where there is a discriminator.

    Models that can only be run whole return media in place of latents, which their `decode` returns unchanged.
    """

    latents: State
    logit: Tensor | None


def draw(
    assembly: Assembly,
    config: SampleConfig,
    seed: int,
    indices: Sequence[int],
    *,
    prompts: Prompts = (),
    given: Mapping[str, Tensor] | None = None,
    independent: bool = False,
    on_step: Callable[[int], None] | None = None,
    watch: Watch | None = None,
) -> Drawn:
    """Sample the latents of `indices`, each from its own noise, with `prompts` one for each sample, or none.

    Prompts may differ by modality, except for models that can only be run whole and take one for all (UsageError).

    The same call gives the same bits on a CPU. In another batch a sample's noise is the same to the bit, and its
    float32 latents after a full run are within 1e-3, because sums are rounded differently.

    `given` are clean latents (B, ...) of modalities that are not sampled. `independent` turns guidance off, with the
    same noise and runs. `on_step` is called with the number of each step, from 1 on, and may raise to stop;
    `watch` too, with the states and x_0 (B, ...) of that step, but not for models that can only be run whole.
    """
    assembly = assembly.keyed(seed, indices)
    guidance = _guidance(assembly, config, independent)
    texts = prompts or [""] * len(indices)
    if runs_whole(assembly.models):
        run = Run(_prompts(texts), config.steps, config.cfg, guidance, on_step or (lambda step: None))
        return Drawn(*run_whole(assembly.models, run))
    solver = _Solver(assembly.conditioned(texts, config.negative_prompt), config, guidance, seed, indices, watch)
    drawn = solver.solve(config.steps, given or {}, on_step=on_step)
    again = config.while_resampled()
    solver = replace(solver, config=again, guidance=_guidance(assembly, again, independent))
    for number, modality in enumerate(resampled_modalities(config, assembly.shapes, given or {})):
        rest = {m: x for m, x in drawn.latents.items() if m != modality}
        done = config.steps + number * config.gibbs_steps
        drawn = solver.solve(config.gibbs_steps, rest, f"gibbs {number} ", done, on_step)
    return drawn


def _prompts(texts: Prompts) -> Prompts:
    """Return prompts by modality as one for all where they are the same, which any model takes."""
    if not isinstance(texts, Mapping):
        return texts
    first, *others = (list(own) for own in texts.values())
    return texts if any(other != first for other in others) else first


def resampled_modalities(config: SampleConfig, modalities: Collection[str], given: Collection[str]) -> tuple[str, ...]:
    """Return the modalities resampled after the joint run, each given all others: one sweep of Gibbs sampling.

    Resampling from the conditional distribution leaves the joint distribution invariant, and the conditional is often
    learnt better. Given modalities stay as they are, and a single free one was sampled conditionally already.
    """
    free = [m for m in modalities if m not in given]
    return tuple(m for m in config.gibbs if m in free) if len(free) > 1 else ()


def total_steps(config: SampleConfig, modalities: Collection[str], given: Collection[str]) -> int:
    """Return the number of solver steps of a sample, all runs together."""
    return config.steps + len(resampled_modalities(config, modalities, given)) * config.gibbs_steps


def require_steps(assembly: Assembly, config: SampleConfig) -> None:
    """Raise UsageError, naming the key, where a model has no grid of as many steps."""
    bases = [] if runs_whole(assembly.models) else assembly.bases
    wanted = {"sample.steps": config.steps} | ({"sample.gibbs_steps": config.gibbs_steps} if config.gibbs else {})
    for key, steps in wanted.items():
        try:
            coupled_grid(bases, steps, assembly.coupling) if bases else None
        except (UsageError, ValueError) as error:
            raise UsageError(f"{key}: {error}") from error


def last_inside(grid: Grid, window: LogSNRWindow) -> int | None:
    """Return the last step at which any modality's log-SNR lies inside the window, None where there is none."""
    low, high = window
    inside = [(low <= lam) & (lam <= high) for lam in (log_snr(g.alpha, g.sigma)[:-1] for g in grid.values())]
    steps = torch.stack(inside).any(0).nonzero()
    return int(steps[-1]) if len(steps) else None


@dataclass(frozen=True)
class _Solver:
    """What all sampler runs of a batch share."""

    assembly: Assembly
    config: SampleConfig
    guidance: Guidance | None
    seed: int
    indices: Sequence[int]
    watch: Watch | None = None

    def solve(
        self,
        steps: int,
        given: Mapping[str, Tensor],
        run: str = "",
        done: int = 0,
        on_step: Callable[[int], None] | None = None,
    ) -> Drawn:
        """Run the sampler from the noise of the named run, with latents `given` fixed; `on_step` counts from `done`."""
        assembly, config = self.assembly, self.config
        grid = coupled_grid(self.assembly.bases, steps, assembly.coupling)
        held = self._held(given, run) if given else None
        loaded, guidance = assembly.discriminator, self.guidance
        if guidance is not None and held is not None:
            guidance = replace(guidance, discriminator=beside_fixed(guidance.discriminator, held.levels))
        denoise = JointDenoiser(
            self.assembly.bases,
            guidance,
            config.cfg,
            assembly.dtype,
            held,
            config.threshold,
            loaded.module if loaded else None,
        )
        last = LastLogit(denoise, grid, last_inside(grid, config.window))
        first = {m: levels.at(0) for m, levels in grid.items()}
        state = initial_state(self.seed, self.indices, assembly.shapes, first, assembly.device, run)
        sampler = sampler_of(config.sampler, config.joint_steps, config.joint_window)
        noise = StepNoise(self.seed, self.indices, run)
        latents = sampler(denoise, state, grid, noise, _callbacks(last, on_step, self.watch, done))
        return Drawn(latents | dict(held.clean if held else {}), last.logit)

    def _held(self, given: Mapping[str, Tensor], run: str) -> Given:
        """Return the given latents with the noise that their samples would have started from.

        For a discriminator that was trained with one modality almost clean they are noised to that level, which samples
        the conditional distribution; for any other to the sampler's own level, the only pairing in its training.
        """
        assembly = self.assembly
        clean = {m: x.to(assembly.device).float() for m, x in given.items()}
        noise = {
            m: torch.stack([initial_noise(self.seed, i, m, x.shape[1:], run) for i in self.indices]).to(assembly.device)
            for m, x in clean.items()
        }
        conditional = assembly.discriminator is not None and assembly.discriminator.trained_with_given
        # A model of several modalities takes them at one level: only models that are given whole can be almost clean.
        whole = [base for base in self.assembly.bases if base.modalities.keys() <= clean.keys()] if conditional else []
        return Given(clean, noise, given_levels(whole))


def _guidance(assembly: Assembly, config: SampleConfig, independent: bool) -> Guidance | None:
    if independent or assembly.discriminator is None:
        return None
    windows = dict.fromkeys(assembly.shapes, config.window)
    return Guidance(assembly.discriminator.module, config.guidance, windows, cast(Form, config.guidance_form))


@dataclass
class LastLogit:
    """A sampler's callback that keeps the logit (B,) of one step, evaluating it where guidance did not."""

    denoise: JointDenoiser
    grid: Grid
    step: int | None
    logit: Tensor | None = None

    def __call__(self, step: int, state: State, prediction: Prediction) -> None:
        """Keep the logit of the states (B, ...) at `self.step`."""
        if step == self.step:
            levels = {m: whole.at(step) for m, whole in self.grid.items()}
            self.logit = prediction.logit if prediction.logit is not None else self.denoise.logit(state, levels)


def _callbacks(
    last: StepCallback, on_step: Callable[[int], None] | None, watch: Watch | None, done: int
) -> StepCallback:
    def callback(step: int, state: State, prediction: Prediction) -> None:
        last(step, state, prediction)
        if on_step is not None:
            on_step(done + step + 1)
        if watch is not None:
            watch(done + step + 1, state, prediction.x0)

    return callback
