"""Guidance by a discriminator: its logit, the logit's gradient, and the guided prediction of eq. (3).

    epsilon_guided = epsilon - w * sigma * d logit / d x    (3)

(MMDisCo, arXiv 2405.17842); classifier-free guidance (CFG) beside it.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.diffusion.prediction import at_least_float32, per_sample
from mmdisco_cli.diffusion.schedules import Levels, log_snr

LogSNRWindow = tuple[float, float]
Form = Literal["logit", "released"]
DEFAULT_WINDOW: LogSNRWindow = (-4.5, 4.0)
ALL_LEVELS: LogSNRWindow = (-20.0, 20.0)
CLIP = 1e-5
TIME_MODALITY = "audio"
"""The modality whose training times the released discriminators take."""


class Discriminator(Protocol):
    """A discriminator, in a plugin a `torch.nn.Module`: its call distinguishes real tuples of noisy states from others.

    `x` holds each modality's state (B, *latent_shape) divided by sqrt(alpha^2 + sigma^2), `log_snr` its log-SNR (B,),
    and `pooled` its condition (B, D) where the base model has one, else it is absent or None. The logit (B,) of each
    sample depends on that sample alone, and is differentiable by every state; twice where Eq. (5) is to train it. With
    `reads_x0` true on the object, the call takes a further mapping: what the base models alone make of x, constant.
    """

    def __call__(
        self, x: Mapping[str, Tensor], log_snr: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None = None, /
    ) -> Tensor:
        """Return the logit (B,), of any floating-point type: the log density ratio of real to re-paired tuples."""


@runtime_checkable
class Separable(Protocol):
    """A discriminator that reads each modality alone and compares what it read; its call is `compare(read(...))`.

    Training reads a batch once and compares it in many re-pairings, and sampling reads a given modality once.
    """

    def read(
        self, x: Mapping[str, Tensor], log_snr: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None = None, /
    ) -> State:
        """Return features (B, ...) of each modality in x, all of them or some, under the conditions of all."""

    def compare(self, read: Mapping[str, Tensor], /) -> Tensor:
        """Return the logit (B,) of tuples of such features; (A, B) where they have two batch axes (A, B, ...)."""


class BuildDiscriminator(Protocol):
    """What the factory of a `DiscriminatorSpec` returns."""

    def __call__(self, options: Any, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int], /) -> nn.Module:
        """Return an untrained discriminator of latents (B, *shape) and conditions (B, size), by modality.

        All that its logit depends on is among its parameters and buffers, which a file keeps. Under
        `torch.device("meta")`, where a dry run builds and calls it, no value of a tensor may be read.

        Raises:
            ValueError: these shapes are not supported.
        """


@runtime_checkable
class Timed(Protocol):
    """What the form "released" needs of a discriminator: its logit and noise levels at training times, not log-SNR."""

    def at_times(self, x: Mapping[str, Tensor], t: Tensor, pooled: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the logit (B,) at training times t (B,)."""

    def sigmas(self, t: Tensor) -> dict[str, Tensor]:
        """Return each modality's sigma (B,) at training times t (B,)."""


@dataclass(frozen=True)
class Guidance:
    """How a discriminator guides: by modality, its weight (1 where absent) and the log-SNR window in which it acts.

    The form "released" is that of the authors' code (MMDisCo, arXiv 2405.17842): the gradient of the logit of a
    probability kept 1e-5 away from 0 and 1, which vanishes where the discriminator is certain, scaled by the sigma of
    the training time. `cfg` are the CFG scales, by modality, which the gradient shares with the base models.
    """

    discriminator: Discriminator
    weights: Mapping[str, float] = field(default_factory=dict)
    windows: Mapping[str, LogSNRWindow] = field(default_factory=dict)
    form: Form = "logit"
    cfg: Mapping[str, float] = field(default_factory=dict)


def logit(
    discriminator: Discriminator,
    x: Mapping[str, Tensor],
    levels: Mapping[str, Levels],
    pooled: Mapping[str, Tensor] | None = None,
    x0: Mapping[str, Tensor] | None = None,
    form: Form = "logit",
) -> Tensor:
    """Return the logit (B,), at least float32, of noisy states x (B, ...) at levels () or (B,); differentiable in x.

    `x0` are the base models' own predictions for x, for a discriminator that `reads_x0`; they are constants. In the
    form "released" a `Timed` discriminator gets the models' native times instead of log-SNR.

    Raises:
        ValueError: the discriminator reads x_0 and there is none, or the form "released" of one that is not `Timed`.
    """
    scaled = {m: s / per_sample(torch.hypot(levels[m].alpha, levels[m].sigma), s) for m, s in x.items()}
    if form == "released":
        return at_least_float32(_timed(discriminator).at_times(scaled, _times(x, levels), pooled))
    lam = {m: log_snr(levels[m].alpha, levels[m].sigma).to(s.device).expand(len(s)) for m, s in x.items()}
    if not reads_x0(discriminator):
        return at_least_float32(discriminator(scaled, lam, pooled))
    if x0 is None:
        raise ValueError("this discriminator reads the base models' x_0: pass x0")
    reading = cast(Callable[..., Tensor], discriminator)
    return at_least_float32(reading(scaled, lam, pooled, {m: x0[m].detach() for m in x}))


def reads_x0(discriminator: Discriminator) -> bool:
    """Return whether a discriminator takes the base models' x_0 as a fourth argument."""
    return bool(getattr(discriminator, "reads_x0", False))


def logit_and_gradient(
    discriminator: Discriminator,
    x: Mapping[str, Tensor],
    levels: Mapping[str, Levels],
    pooled: Mapping[str, Tensor] | None = None,
    create_graph: bool = False,
    x0: Mapping[str, Tensor] | None = None,
    form: Form = "logit",
    by: Collection[str] | None = None,
) -> tuple[Tensor, State]:
    """Return the logit (B,) and its gradient by each state, taken on copies under any grad mode of the caller.

    `by` names the states by which it is taken, all by default. With `create_graph` both stay differentiable by the
    discriminator's parameters, as the losses need. In the form "released" the gradient is that of the clipped logit.
    """
    with torch.inference_mode(False), torch.enable_grad():
        copies = {m: s.detach().clone().requires_grad_(by is None or m in by) for m, s in x.items()}
        wanted = {m: s for m, s in copies.items() if s.requires_grad}
        # Copied too: tensors made in inference mode cannot take part in a backward pass.
        conditions = None if pooled is None else {m: p.clone() for m, p in pooled.items()}
        estimates = None if x0 is None else {m: e.clone() for m, e in x0.items()}
        value = logit(discriminator, copies, levels, conditions, estimates, form)
        objective = value if form == "logit" else clipped_logit(value)
        if by is not None and not objective.requires_grad:  # it depends on none of these states
            return value, {m: torch.zeros_like(s) for m, s in wanted.items()}
        # Samples are independent of one another, so the gradient of the sum holds each sample's own.
        gradient = torch.autograd.grad(
            objective.sum(), tuple(wanted.values()), create_graph=create_graph, allow_unused=True,
            materialize_grads=True,
        )  # fmt: skip
    return value if create_graph else value.detach(), dict(zip(wanted, gradient, strict=True))


def clipped_logit(value: Tensor) -> Tensor:
    """Return log((p + 1e-5) / (1 - p + 1e-5)) for p = sigmoid(value), as the authors compute it, in float32."""
    p = torch.sigmoid(value)
    return torch.log(p + CLIP) - torch.log1p(-p + CLIP)


def guidance_gradient(
    guidance: Guidance,
    x: Mapping[str, Tensor],
    levels: Mapping[str, Levels],
    pooled: Mapping[str, Tensor] | None = None,
    negative: Mapping[str, Tensor] | None = None,
    x0: Mapping[str, Tensor] | None = None,
    by: Collection[str] | None = None,
) -> tuple[Tensor, State]:
    """Return the logit (B,) and the gradient by modality for eq. (3), in the guidance's form; `by` some, or by all.

    With `negative` pooled conditions (B, D) beside the `pooled` ones, the gradient has the CFG of the base models:
    g = g_negative + s * (g_positive - g_negative). Both halves go through the discriminator in one batch.
    """
    if pooled and negative and any(guidance.cfg.get(m, 1.0) != 1 for m in x):
        twice = {m: Levels(*(v.repeat(2) if v.ndim else v for v in level)) for m, level in levels.items()}
        texts = {m: torch.cat([negative.get(m, p), p]) for m, p in pooled.items()}
        known = None if x0 is None else _doubled(x0)
        both, halves = logit_and_gradient(
            guidance.discriminator, _doubled(x), twice, texts, x0=known, form=guidance.form, by=by
        )
        value = both.chunk(2)[1]
        pairs = {m: g.chunk(2) for m, g in halves.items()}
        gradient = {m: cfg_combine(pair[1], pair[0], guidance.cfg.get(m, 1.0)) for m, pair in pairs.items()}
    else:
        form = guidance.form
        value, gradient = logit_and_gradient(guidance.discriminator, x, levels, pooled, x0=x0, form=form, by=by)
    if guidance.form == "logit":
        return value, gradient
    sigmas = _timed(guidance.discriminator).sigmas(_times(x, levels))
    return value, {
        m: per_sample(sigmas[m].to(g.device) / levels[m].sigma.to(g.device), g) * g for m, g in gradient.items()
    }


def guided_epsilon(epsilon: Tensor, gradient: Tensor, sigma: Tensor, weight: float | Tensor = 1.0) -> Tensor:
    """Return epsilon - w * sigma * gradient, eq. (3), for sigma () or (B,)."""
    return epsilon - weight * per_sample(sigma, epsilon) * gradient


def guided_x0(x0: Tensor, gradient: Tensor, alpha: Tensor, sigma: Tensor, weight: float | Tensor = 1.0) -> Tensor:
    """Return x_0 + w * (sigma^2 / alpha) * gradient: eq. (3) for x_0, at alpha > 0, () or (B,)."""
    return x0 + weight * per_sample(sigma.square() / alpha, x0) * gradient


def active(guidance: Guidance, levels: Mapping[str, Levels]) -> dict[str, Tensor]:
    """Return, for each modality that is guided, which of its levels () or (B,) are inside its window.

    Modalities of weight 0, or with no level inside, are left out.
    """
    inside = {}
    for modality, level in levels.items():
        low, high = guidance.windows.get(modality, DEFAULT_WINDOW)
        lam = log_snr(level.alpha, level.sigma)
        inside[modality] = (low <= lam) & (lam <= high) & (level.alpha > 0)
    return {m: mask for m, mask in inside.items() if guidance.weights.get(m, 1.0) != 0 and bool(mask.any())}


def guide(
    guidance: Guidance,
    x: Mapping[str, Tensor],
    x0: Mapping[str, Tensor],
    epsilon: Mapping[str, Tensor],
    levels: Mapping[str, Levels],
    pooled: Mapping[str, Tensor] | None = None,
    known: Mapping[str, Tensor] | None = None,
    negative: Mapping[str, Tensor] | None = None,
) -> tuple[State, State, Tensor | None]:
    """Return the guided x_0 and epsilon, and the logit (B,), None where no modality is guided at these levels.

    A modality with weight 0 or outside its window keeps the base models' own tensors. One in x without an x_0, a given
    modality, is input of the discriminator only; `known` is its clean state, for a discriminator that reads x_0.
    `pooled` and `negative` are conditions (B, D), see `guidance_gradient`.
    """
    new_x0, new_epsilon = dict(x0), dict(epsilon)
    inside = active(guidance, {m: levels[m] for m in x0})
    if not inside:
        return new_x0, new_epsilon, None
    value, gradient = guidance_gradient(guidance, x, levels, pooled, negative, {**x0, **(known or {})}, inside)
    for m, mask in inside.items():
        level, gate = levels[m], guidance.weights.get(m, 1.0) * mask
        # Outside the window alpha may be 0: replace it by 1 there, where the gate is 0.
        alpha = level.alpha.where(mask, torch.ones_like(level.alpha))
        gated = per_sample(gate, gradient[m]) * gradient[m]
        new_x0[m] = guided_x0(x0[m], gated, alpha, level.sigma)
        new_epsilon[m] = guided_epsilon(epsilon[m], gated, level.sigma)
    return new_x0, new_epsilon, value


def cfg_combine(positive: Tensor, negative: Tensor, scale: float) -> Tensor:
    """Return negative + scale * (positive - negative), classifier-free guidance on native outputs."""
    return positive if scale == 1 else negative + scale * (positive - negative)


def _doubled(x: Mapping[str, Tensor]) -> State:
    return {m: torch.cat([s, s]) for m, s in x.items()}


def _timed(discriminator: Discriminator) -> Timed:
    if not isinstance(discriminator, Timed):
        raise ValueError('guidance of the form "released" takes one of the paper\'s discriminators')
    return discriminator


def _times(x: Mapping[str, Tensor], levels: Mapping[str, Levels]) -> Tensor:
    """Return the native times (B,) of the modality whose times the released discriminators take."""
    state = x[TIME_MODALITY]
    return levels[TIME_MODALITY].t.to(state.device).expand(len(state))
