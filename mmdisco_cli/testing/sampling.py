"""Checks of sampling with a backbone, against a plain loop over its own predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from mmdisco_cli.diffusion.backbone import (
    Base,
    Condition,
    ModalityInfo,
    ModalityPlan,
    Payload,
    Request,
    State,
    as_joint,
    own_guidance,
)
from mmdisco_cli.diffusion.coupling import coupled_grid
from mmdisco_cli.diffusion.denoise import make_denoiser, predict_bases, unguided_scales
from mmdisco_cli.diffusion.guidance import Guidance, cfg_combine
from mmdisco_cli.diffusion.noise import initial_state
from mmdisco_cli.diffusion.prediction import per_sample, to_x0_eps
from mmdisco_cli.diffusion.samplers import Grid, ddim
from mmdisco_cli.diffusion.schedules import Levels, cosine
from mmdisco_cli.testing.contract import SCALE, negative_of
from mmdisco_cli.testing.expecting import expect, expect_close, noise

PARTNER = "partner"


def check_cfg(base: Base, batch: int, tolerance: float) -> None:
    """Expect the same from both halves of classifier-free guidance in one batch as one after the other."""
    steered = {m: c for m, c in base.conditions.items() if c.negative is not None}
    if not steered or own_guidance(base) is not None:
        return
    levels = base.backbone.levels_at(torch.linspace(0.3, 0.8, batch), base.plan)
    x = noise({m: plan.latent_shape for m, plan in base.plan.modalities.items()}, batch)
    try:
        together = predict_bases([base], x, levels, dict.fromkeys(steered, SCALE))
    except (RuntimeError, TypeError, KeyError) as error:
        raise AssertionError(f"the negative condition cannot be stacked onto the positive one ({error})") from error
    t = {m: level.t for m, level in levels.items()}
    positive = base.backbone.predict(x, t, {m: c.positive for m, c in base.conditions.items()}, base.plan)
    negative = base.backbone.predict(x, t, {m: negative_of(c) for m, c in base.conditions.items()}, base.plan)
    for m in steered:
        native = cfg_combine(positive[m].float(), negative[m].float(), SCALE)
        level, prediction = levels[m], base.modalities[m].prediction
        expected, _ = to_x0_eps(native, x[m], level.alpha, level.sigma, prediction)
        otherwise = "the halves of classifier-free guidance are predicted otherwise in one batch"
        expect_close({m: together.x0[m]}, {m: expected}, 10 * tolerance, otherwise)


def check_sampling(base: Base, batch: int, steps: int, tolerance: float) -> None:
    """Expect samples that depend on their seed only, also beside another model that is guided while this one is not."""
    within = 10 * tolerance  # a run of steps multiplies what was rounded
    alone = _walk(base, batch, steps)
    expect_close(_walk(base, batch, steps), alone, within, "one seed gives two sets of samples")
    other = _walk(base, batch, steps, seed=1)
    for m, x in alone.items():
        expect(bool(x.isfinite().all()), f"{m}: samples are not finite")
        gap = float((x - other[m]).abs().max())
        expect(gap > within * max(1.0, float(x.abs().max())), f"{m}: two seeds give one set of samples")
    beside = _beside_a_guided_partner(base, batch, steps)
    expect_close(beside, alone, within, "guidance of weight 0 changes the samples of the model alone")


def _walk(base: Base, batch: int, steps: int, seed: int = 0) -> State:
    """Sample with the model's own predictions and a loop of its own: DDIM, no guidance, no CFG."""
    grid = coupled_grid([base], steps)
    state = _start(base, grid, batch, seed)
    payloads = {m: condition.positive for m, condition in base.conditions.items()}
    for step in range(steps):
        here, there = ({m: levels.at(step + i) for m, levels in grid.items()} for i in (0, 1))
        t = {m: level.t.expand(batch) for m, level in here.items()}
        native = base.backbone.predict(state, t, payloads, base.plan)
        state = {m: _stepped(native[m], x, here[m], there[m], base.modalities[m]) for m, x in state.items()}
    return state


def _beside_a_guided_partner(base: Base, batch: int, steps: int) -> State:
    partner = as_joint(_Normal())
    bases = [base, Base(partner, partner.plan(Request()))]
    guidance = Guidance(_SumOfStates(), dict.fromkeys(base.modalities, 0.0))
    denoise = make_denoiser(bases, guidance, unguided_scales(base.modalities))
    grid = coupled_grid(bases, steps)
    start = _start(base, grid, batch, 0) | initial_state(
        0, range(batch), {PARTNER: (1, 4)}, {PARTNER: grid[PARTNER].at(0)}
    )
    end = ddim(denoise, start, grid)
    return {m: end[m] for m in base.modalities}


def _start(base: Base, grid: Grid, batch: int, seed: int) -> State:
    shapes = {m: plan.latent_shape for m, plan in base.plan.modalities.items()}
    return initial_state(seed, range(batch), shapes, {m: grid[m].at(0) for m in shapes})


def _stepped(native: Tensor, x: Tensor, here: Levels, there: Levels, info: ModalityInfo) -> Tensor:
    x0, epsilon = to_x0_eps(native, x, here.alpha, here.sigma, info.prediction)
    return float(there.alpha) * x0 + float(there.sigma) * epsilon


class _SumOfStates(nn.Module):
    """A discriminator whose gradient is nowhere zero."""

    def forward(
        self, x: Mapping[str, Tensor], log_snr: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return the sum of all states (B,)."""
        return torch.stack([state.flatten(1).sum(1) for state in x.values()]).sum(0)


@dataclass(frozen=True)
class _Normal:
    """The exact model of standard normal data."""

    info: ModalityInfo = field(default_factory=lambda: ModalityInfo(PARTNER, "epsilon", 1, None))
    fingerprint: str = "normal"

    def plan(self, request: Request) -> ModalityPlan:
        return ModalityPlan((1, 4), (1, 4), None, 0.0)

    def grid(self, steps: int, plan: ModalityPlan) -> Levels:
        return cosine().grid(steps)

    def levels_at(self, u: Tensor, plan: ModalityPlan) -> Levels:
        return cosine().levels_at(u)

    def encode_prompt(self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: ModalityPlan) -> Condition:
        return Condition()

    def predict(self, x: Tensor, t: Tensor, condition: Payload, plan: ModalityPlan) -> Tensor:
        return per_sample(cosine().levels_at(t).sigma, x) * x

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        return media

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        return latent
