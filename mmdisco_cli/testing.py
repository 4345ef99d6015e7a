"""Conformance of a backbone with the contract, for plugin authors.

from mmdisco_cli.testing import check_backbone

def test_tone():
    check_backbone(build(ToneOptions()), request=Request(seconds=1.0))
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import (
    Backbone,
    Base,
    JointBackbone,
    Payload,
    Request,
    State,
    as_joint,
)
from mmdisco_cli.diffusion.schedules import Levels, log_snr

_ANY_REQUEST = Request()


def check_backbone(
    backbone: Backbone | JointBackbone,
    request: Request = _ANY_REQUEST,
    prompts: Sequence[str] = ("first", "second"),
    *,
    steps: int = 5,
    tolerance: float = 1e-4,
) -> None:
    """Check shapes, noise levels, predictions and the way to media and back, on one sample for each prompt.

    Raises:
        AssertionError: naming the first promise that is broken.
    """
    joint = as_joint(backbone)
    base = Base(joint, joint.plan(request), joint.encode_prompt(prompts, None, joint.plan(request)))
    _check_description(base, request, len(prompts))
    _check_levels(base, steps)
    _check_predictions(base, len(prompts), tolerance)
    _check_media(base, len(prompts))


def _check_description(base: Base, request: Request, batch: int) -> None:
    info = base.backbone.info
    _expect(bool(info.fingerprint), "the fingerprint is empty")
    _expect(info == base.backbone.info, "info changes from call to call")
    _expect(base.plan == base.backbone.plan(request), "plan gives two answers to one request")
    _expect(set(base.plan.modalities) == set(base.modalities), "plan and info name different modalities")
    for name, about in base.modalities.items():
        plan = base.plan.modalities[name]
        _expect(
            all(size > 0 for size in (*plan.latent_shape, *plan.media_shape)), f"{name}: the plan has an empty axis"
        )
        _expect(plan.latent_shape[0] == about.latent_channels, f"{name}: latents do not have info's channels first")
        pooled = base.conditions[name].pooled
        if about.pooled_dim:
            shape = None if pooled is None else tuple(pooled.shape)
            _expect(shape == (batch, about.pooled_dim), f"{name}: pooled is {shape}, not (B, pooled_dim)")


def _check_levels(base: Base, steps: int) -> None:
    u = torch.linspace(1, 0, steps + 1)
    drawn = base.backbone.levels_at(u, base.plan)
    for name, grid in base.backbone.grid(steps, base.plan).items():
        _check_walk(grid, steps + 1, f"{name}: grid")
        _check_walk(drawn[name], steps + 1, f"{name}: levels_at")
        for i in range(steps + 1):
            alone = base.backbone.levels_at(u[i : i + 1], base.plan)[name]
            same = all(torch.equal(one, many[i : i + 1]) for one, many in zip(alone, drawn[name], strict=True))
            _expect(same, f"{name}: levels_at depends on the rest of the batch")


def _check_walk(levels: Levels, length: int, where: str) -> None:
    for field, value in levels._asdict().items():
        _expect(value.shape == (length,), f"{where}: {field} is {tuple(value.shape)}, not ({length},)")
        _expect(bool(value.isfinite().all()), f"{where}: {field} is not finite")
    _expect(bool((levels.alpha.diff() >= 0).all()), f"{where}: alpha falls on the way from noise to data")
    _expect(bool((levels.sigma.diff() <= 0).all()), f"{where}: sigma rises on the way from noise to data")
    rising = log_snr(levels.alpha, levels.sigma).diff() >= 0
    _expect(bool(rising.all()), f"{where}: the signal-to-noise ratio falls on the way from noise to data")


def _check_predictions(base: Base, batch: int, tolerance: float) -> None:
    levels = base.backbone.levels_at(torch.linspace(0.3, 0.8, batch), base.plan)
    t = {name: level.t for name, level in levels.items()}
    x = _noise({name: plan.latent_shape for name, plan in base.plan.modalities.items()}, batch)
    payloads = {name: condition.positive for name, condition in base.conditions.items()}

    def predict(x: State, t: State, payloads: Mapping[str, Payload]) -> State:
        return base.backbone.predict(x, t, payloads, base.plan)

    out = _unchanged(lambda: predict(x, t, payloads), {**x, **{f"{name} times": value for name, value in t.items()}})
    _expect_state(out, x, "predict")
    _expect_close(predict(x, t, payloads), out, 0.0, "predict gives two answers to one question")
    for i in range(batch):
        alone = predict(_row(x, i), _row(t, i), {name: _row_of(payload, i) for name, payload in payloads.items()})
        _expect_close(alone, _row(out, i), tolerance, f"sample {i} is predicted otherwise alone: each has its own t")


def _check_media(base: Base, batch: int) -> None:
    latents = _noise({name: plan.latent_shape for name, plan in base.plan.modalities.items()}, batch)
    media = _noise({name: plan.media_shape for name, plan in base.plan.modalities.items()}, batch)
    media = {name: value.clamp(-1, 1) for name, value in media.items()}
    _expect_state(_unchanged(lambda: base.backbone.decode(latents, base.plan), latents), media, "decode")
    _expect_state(_unchanged(lambda: base.backbone.encode(media, base.plan), media), latents, "encode")


def _noise(shapes: Mapping[str, tuple[int, ...]], batch: int) -> State:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(batch, *shape, generator=generator) for name, shape in shapes.items()}


def _row(state: Mapping[str, Tensor], i: int) -> State:
    return {name: value[i : i + 1] for name, value in state.items()}


def _row_of(payload: Payload, i: int) -> Payload:
    if isinstance(payload, Mapping):
        return _row(payload, i)
    return None if payload is None else payload[i : i + 1]


def _unchanged(call: Callable[[], State], tensors: Mapping[str, Tensor]) -> State:
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    result = call()
    for name, tensor in tensors.items():
        _expect(torch.equal(before[name], tensor), f"the caller's {name} were written to")
    return result


def _expect_state(state: State, like: State, call: str) -> None:
    _expect(set(state) == set(like), f"{call} gives {sorted(state)}, not {sorted(like)}")
    for name, value in state.items():
        expected = tuple(like[name].shape)
        _expect(tuple(value.shape) == expected, f"{name}: {call} gives {tuple(value.shape)}, not {expected}")
        _expect(bool(value.isfinite().all()), f"{name}: {call} gives values that are not finite")
        _expect(not value.requires_grad, f"{name}: {call} builds a graph: run it under torch.no_grad()")


def _expect_close(found: State, expected: State, tolerance: float, otherwise: str) -> None:
    for name, value in expected.items():
        error = float((found[name] - value).abs().max())
        _expect(error <= tolerance, f"{name}: {otherwise} (by {error:.2g})")


def _expect(condition: bool, otherwise: str) -> None:
    # Not an assert statement, which python -O would drop.
    if not condition:
        raise AssertionError(otherwise)
