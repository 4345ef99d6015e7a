"""The discriminator's logit, its gradient, and the guided prediction of eq. (3); classifier-free guidance of a base."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.diffusion.prediction import at_least_float32, per_sample
from mmdisco_cli.diffusion.schedules import Levels, log_snr

# (x / sqrt(alpha^2 + sigma^2), log-SNR (B,), pooled conditions or None[, x_0 of the base models]) -> logit (B,)
Discriminator = Callable[..., Tensor]
Window = tuple[float, float]
DEFAULT_WINDOW: Window = (-4.5, 4.0)


@dataclass(frozen=True)
class Guidance:
    """Say how a discriminator guides: by modality, its weight (1 where absent) and the log-SNR window it acts in."""

    discriminator: Discriminator
    weights: Mapping[str, float] = field(default_factory=dict)
    windows: Mapping[str, Window] = field(default_factory=dict)


def logit(
    discriminator: Discriminator,
    x: Mapping[str, Tensor],
    levels: Mapping[str, Levels],
    pooled: Mapping[str, Tensor] | None = None,
    x0: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Return the logit (B,), at least float32, of noisy states x (B, ...) at levels () or (B,); differentiable in x.

    `x0` is what the base models alone make of x, for a discriminator that `reads_x0`; it is held constant.
    """
    scaled = {m: s / per_sample(torch.hypot(levels[m].alpha, levels[m].sigma), s) for m, s in x.items()}
    lam = {m: log_snr(levels[m].alpha, levels[m].sigma).to(s.device).expand(len(s)) for m, s in x.items()}
    if not reads_x0(discriminator):
        return at_least_float32(discriminator(scaled, lam, pooled))
    if x0 is None:
        raise ValueError("this discriminator reads the base models' x_0: pass x0")
    return at_least_float32(discriminator(scaled, lam, pooled, {m: x0[m].detach() for m in x}))


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
) -> tuple[Tensor, State]:
    """Return the logit (B,) and its gradient by each state, taken on copies under any grad mode of the caller.

    With `create_graph` both stay differentiable by the discriminator's parameters, as the losses need.
    """
    with torch.inference_mode(False), torch.enable_grad():
        copies = {m: s.detach().clone().requires_grad_() for m, s in x.items()}
        # Copied too, because what was made in inference mode cannot take part in a backward pass.
        conditions = None if pooled is None else {m: p.clone() for m, p in pooled.items()}
        estimates = None if x0 is None else {m: e.clone() for m, e in x0.items()}
        value = logit(discriminator, copies, levels, conditions, estimates)
        # A sum, because samples do not see one another: its gradient holds each sample's own.
        gradient = torch.autograd.grad(
            value.sum(), tuple(copies.values()), create_graph=create_graph, allow_unused=True, materialize_grads=True
        )
    return value if create_graph else value.detach(), dict(zip(copies, gradient, strict=True))


def guided_epsilon(epsilon: Tensor, gradient: Tensor, sigma: Tensor, weight: float | Tensor = 1.0) -> Tensor:
    """Return epsilon - w * sigma * gradient, eq. (3), for sigma () or (B,)."""
    return epsilon - weight * per_sample(sigma, epsilon) * gradient


def guided_x0(x0: Tensor, gradient: Tensor, alpha: Tensor, sigma: Tensor, weight: float | Tensor = 1.0) -> Tensor:
    """Return x_0 + w * (sigma^2 / alpha) * gradient, what eq. (3) makes of x_0 at alpha > 0, () or (B,)."""
    return x0 + weight * per_sample(sigma.square() / alpha, x0) * gradient


def active(guidance: Guidance, levels: Mapping[str, Levels]) -> dict[str, Tensor]:
    """Return, for each modality that is guided at all here, which of its levels () or (B,) are inside the window."""
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
) -> tuple[State, State, Tensor | None]:
    """Return the guided x_0 and epsilon, and the logit (B,), None where no modality is guided at these levels.

    A modality with weight 0 or outside its window keeps the very tensors of the base; one without x_0 is only seen,
    as what is `known` of it where the discriminator reads x_0.
    """
    new_x0, new_epsilon = dict(x0), dict(epsilon)
    inside = active(guidance, {m: levels[m] for m in x0})
    if not inside:
        return new_x0, new_epsilon, None
    value, gradient = logit_and_gradient(guidance.discriminator, x, levels, pooled, x0={**x0, **(known or {})})
    for m, mask in inside.items():
        level, gate = levels[m], guidance.weights.get(m, 1.0) * mask
        # Where a sample is outside, alpha may be 0: give it a harmless one, its gate is 0 anyway.
        alpha = level.alpha.where(mask, torch.ones_like(level.alpha))
        push = per_sample(gate, gradient[m]) * gradient[m]
        new_x0[m] = guided_x0(x0[m], push, alpha, level.sigma)
        new_epsilon[m] = guided_epsilon(epsilon[m], push, level.sigma)
    return new_x0, new_epsilon, value


def cfg_combine(positive: Tensor, negative: Tensor, scale: float) -> Tensor:
    """Return negative + scale * (positive - negative), classifier-free guidance on native outputs."""
    return positive if scale == 1 else negative + scale * (positive - negative)
