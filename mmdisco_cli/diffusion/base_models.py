"""Predictions of the base models: native outputs with CFG, turned into x_0 and epsilon of every modality."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.diffusion.adapting import Base, own_guidance, unwrap
from mmdisco_cli.diffusion.contract import Condition, Payload, State
from mmdisco_cli.diffusion.guidance import cfg_combine
from mmdisco_cli.diffusion.prediction import at_least_float32, to_x0_eps
from mmdisco_cli.diffusion.schedules import Levels
from mmdisco_cli.errors import PluginError
from mmdisco_cli.registry.blame import owner_of


@dataclass(frozen=True)
class Prediction:
    """The predicted x_0 and epsilon (B, ...) of each state, and the discriminator's logit (B,) where there is one."""

    x0: State
    epsilon: State
    logit: Tensor | None = None


# (states (B, ...), levels () or (B,)) -> prediction
Denoiser = Callable[[State, Mapping[str, Levels]], Prediction]


@torch.no_grad()
def predict_bases(
    bases: Sequence[Base],
    state: Mapping[str, Tensor],
    levels: Mapping[str, Levels],
    cfg: Mapping[str, float] | None = None,
    dtype: torch.dtype | None = torch.float32,
) -> Prediction:
    """Return the prediction of every model for its own states, without guidance by a discriminator.

    Raises:
        PluginError: a prediction has another shape than its state.
    """
    x0: State = {}
    epsilon: State = {}
    for base in bases:
        with autocast(state, dtype):
            native = _native(base, state, levels, cfg or {})
        _require_like(native, state, base)
        for m, info in base.modalities.items():
            level = levels[m]
            x0[m], epsilon[m] = to_x0_eps(native[m], state[m], level.alpha, level.sigma, info.prediction)
    return Prediction(x0, epsilon)


def autocast(state: Mapping[str, Tensor], dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Return autocast to `dtype` on the states' device; None keeps the caller's own autocast."""
    if dtype is None:
        return nullcontext()
    device = next(iter(state.values())).device.type
    return torch.autocast(device, dtype, enabled=dtype != torch.float32)


def _native(base: Base, state: Mapping[str, Tensor], levels: Mapping[str, Levels], cfg: Mapping[str, float]) -> State:
    """Return a model's native output: with its own guidance, or with both halves of CFG in one batch."""
    names = base.modalities
    conditions = {m: base.conditions.get(m, Condition()) for m in names}
    scales = cfg_scales(base, cfg)
    x = {m: state[m] for m in names}
    t = {m: levels[m].t.to(x[m].device).expand(len(x[m])) for m in names}
    positive = {m: condition.positive for m, condition in conditions.items()}
    if all(scale == 1 for scale in scales.values()):
        return base.backbone.predict(x, t, positive, base.plan)
    negative = {m: c.negative if scales[m] != 1 else c.positive for m, c in conditions.items()}
    own = own_guidance(base)
    if own is not None:
        return own.guided(x, t, positive, negative, scales, base.plan)
    both = base.backbone.predict(
        {m: torch.cat([s, s]) for m, s in x.items()},
        {m: torch.cat([s, s]) for m, s in t.items()},
        {m: _stack(negative[m], positive[m]) for m in names},
        base.plan,
    )
    halves = {m: at_least_float32(both[m]).chunk(2) for m in names}
    return {m: cfg_combine(half[1], half[0], scales[m]) for m, half in halves.items()}


def _require_like(native: Mapping[str, Tensor], state: Mapping[str, Tensor], base: Base) -> None:
    """Raise PluginError where an output has not the shape of its state: other shapes could broadcast silently."""
    for m in base.modalities:
        found = native.get(m) if isinstance(native, Mapping) else native
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        if shape != tuple(state[m].shape):
            owner = owner_of(unwrap(base.backbone))
            whose = f"plugin {owner}: " if owner else ""
            raise PluginError(f"{whose}the prediction of {m} is {shape}, not {tuple(state[m].shape)}")


def _stack(first: Payload, second: Payload) -> Payload:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.cat([first, second])
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return {key: torch.cat([first[key], second[key]]) for key in first}
    if first is None and second is None:
        return None
    raise TypeError("the positive and negative conditions of a modality must have the same type")


def cfg_scales(base: Base, cfg: Mapping[str, float]) -> dict[str, float]:
    """Return the CFG scale of each of a model's modalities, 1 where there is no negative condition."""
    conditions = {m: base.conditions.get(m, Condition()) for m in base.modalities}
    return {
        m: cfg.get(m, info.cfg_scale) if conditions[m].negative is not None else 1.0
        for m, info in base.modalities.items()
    }
