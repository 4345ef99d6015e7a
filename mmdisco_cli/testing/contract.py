"""Checks of a backbone: description, noise levels, predictions, encoding and decoding."""

from collections.abc import Callable, Mapping, Sequence

import torch

from mmdisco_cli.assembly.trial import far_outside
from mmdisco_cli.diffusion.backbone import (
    AUDIO,
    IMAGE,
    VIDEO,
    Base,
    Condition,
    Keyed,
    ModalityInfo,
    ModalityPlan,
    Payload,
    Request,
    State,
    keyed,
    own_guidance,
    unwrap,
)
from mmdisco_cli.diffusion.schedules import Levels, log_snr
from mmdisco_cli.testing.expecting import (
    expect,
    expect_close,
    expect_state,
    noise,
    row,
    row_of,
    tensors_of,
    unchanged,
    undrawn,
)

_AXES = {AUDIO: ((2,), (2, 3)), VIDEO: ((4,), (4,)), IMAGE: ((3,), ())}
"""Axes of media and of latents, without batch, of the kinds that have a layout; those of no entry may be any."""
_CHANNELS = {VIDEO: (3,), IMAGE: (1, 3)}
_COLOURS = {VIDEO: "RGB first", IMAGE: "grey or RGB first"}
Payloads = Mapping[str, Payload]
SCALE = 3.0
"""The CFG scale that guidance is tried at."""
DENSE, SLACK = 1025, 0.01
"""Levels between which those of a grid must lie, and by how much they may miss."""
ROUNDING = 1e-5
"""By how much of the largest one levels that stay as they are may fall."""


def check_description(base: Base, request: Request, batch: int) -> None:
    """Expect info, plan and condition to agree with one another and with the layouts."""
    info = base.backbone.info
    expect(bool(info.fingerprint), "the fingerprint is empty")
    expect(info == base.backbone.info, "info changes from call to call")
    expect(base.plan == base.backbone.plan(request), "plan gives two answers to one request")
    expect(set(base.plan.modalities) == set(base.modalities), "plan and info name different modalities")
    for name, about in base.modalities.items():
        plan = base.plan.modalities[name]
        expect(all(size > 0 for size in (*plan.latent_shape, *plan.media_shape)), f"{name}: the plan has an empty axis")
        expect(plan.latent_shape[0] == about.latent_channels, f"{name}: latents do not have info's channels first")
        _check_layout(about, plan)
        pooled = base.conditions[name].pooled
        if about.pooled_dim:
            shape = None if pooled is None else tuple(pooled.shape)
            expect(shape == (batch, about.pooled_dim), f"{name}: pooled is {shape}, not (B, pooled_dim)")


def _check_layout(about: ModalityInfo, plan: ModalityPlan) -> None:
    name, kind = about.modality, about.kind
    media, latent = _AXES.get(kind, ((), ()))
    laid_out = f"are not laid out as {kind}"
    expect(not media or len(plan.media_shape) in media, f"{name}: media of shape {plan.media_shape} {laid_out}")
    expect(not latent or len(plan.latent_shape) in latent, f"{name}: latents of shape {plan.latent_shape} {laid_out}")
    channels = _CHANNELS.get(kind, plan.media_shape[:1])
    expect(plan.media_shape[0] in channels, f"{name}: media of shape {plan.media_shape} are not {_COLOURS.get(kind)}")
    if kind in (AUDIO, VIDEO) and plan.rate:
        gap = abs(plan.media_shape[1] - plan.seconds * plan.rate)
        expect(gap <= 1, f"{name}: {plan.media_shape[1]} steps at {plan.rate:g} Hz are not {plan.seconds:g} s")


def check_prompts(base: Base, prompts: Sequence[str], tolerance: float) -> None:
    """Expect a prompt to condition its own sample only, in any batch, and negative prompts to be accepted."""
    negatives = [f"no {prompt}" for prompt in prompts]
    try:
        base.backbone.encode_prompt(prompts, negatives, base.plan)
    except Exception as error:
        raise AssertionError(f"encode_prompt fails where negative prompts are given ({error})") from error
    x, t = _question(base, len(prompts))
    together = base.backbone.predict(x, t, {name: c.positive for name, c in base.conditions.items()}, base.plan)
    for i, prompt in enumerate(prompts):
        alone = base.backbone.encode_prompt([prompt], None, base.plan)
        payloads = {name: condition.positive for name, condition in alone.items()}
        found = base.backbone.predict(row(x, i), row(t, i), payloads, base.plan)
        expect_close(found, row(together, i), tolerance, f"prompt {i} steers otherwise alone")
        shown = {name: c.pooled for name, c in alone.items() if c.pooled is not None}
        beside = {name: base.conditions[name].pooled for name in shown}
        pooled = {name: value[i : i + 1] for name, value in beside.items() if value is not None}
        expect_close(shown, pooled, tolerance, f"prompt {i} is pooled otherwise alone")


def check_levels(base: Base, steps: int, tolerance: float) -> None:
    """Expect levels whose noise falls monotonically from u = 1 to u = 0, for each sample by itself."""
    u = torch.linspace(1, 0, steps + 1)
    drawn = base.backbone.levels_at(u, base.plan)
    for name, grid in base.backbone.grid(steps, base.plan).items():
        _check_walk(grid, steps + 1, f"{name}: grid")
        _check_walk(drawn[name], steps + 1, f"{name}: levels_at")
        _check_agreement(grid, base.backbone.levels_at(torch.linspace(1, 0, DENSE), base.plan)[name], name)
        for i in range(steps + 1):
            alone = base.backbone.levels_at(u[i : i + 1], base.plan)[name]._asdict()
            beside = row(drawn[name]._asdict(), i)
            expect_close(alone, beside, tolerance, f"{name}'s levels_at depends on the rest of the batch")


def _check_agreement(grid: Levels, drawn: Levels, name: str) -> None:
    """Expect the same noise schedule by native time in sampling grids and in training; a grid may add the clean end."""
    order = drawn.t.argsort()
    times = drawn.t[order]
    for field in ("alpha", "sigma"):
        scheduled, walked = getattr(drawn, field)[order], getattr(grid, field)[:-1]
        above = torch.searchsorted(times, grid.t[:-1].contiguous()).clamp(1, len(times) - 1)
        low, high = scheduled[above - 1], scheduled[above]
        inside = (grid.t[:-1] >= times[0]) & (grid.t[:-1] <= times[-1])
        outside = torch.maximum(torch.minimum(low, high) - walked, walked - torch.maximum(low, high))
        worst = float(outside[inside].max()) if bool(inside.any()) else 0.0
        expect(worst <= SLACK, f"{name}: grid and levels_at differ in {field} at one native time (by {worst:.2g})")


def _check_walk(levels: Levels, length: int, where: str) -> None:
    for field, value in levels._asdict().items():
        expect(value.shape == (length,), f"{where}: {field} is {tuple(value.shape)}, not ({length},)")
        expect(bool(value.isfinite().all()), f"{where}: {field} is not finite")
    named = levels.t[:-1]  # a clean end may have the name of the level before it
    expect(len(named.unique()) == len(named), f"{where}: t names two levels alike")
    expect(_rises(levels.alpha), f"{where}: alpha falls on the way from noise to data")
    expect(_rises(-levels.sigma), f"{where}: sigma rises on the way from noise to data")
    rising = _rises(log_snr(levels.alpha, levels.sigma))
    expect(rising, f"{where}: the signal-to-noise ratio falls on the way from noise to data")


def _rises(values: torch.Tensor) -> bool:
    """Return whether values never fall by more than rounding."""
    return bool((values.diff() >= -ROUNDING * values.abs().max()).all())


def check_predictions(base: Base, batch: int, tolerance: float) -> None:
    """Expect predictions that depend on a sample's own x, t and condition, and that need no condition."""
    x, t = _question(base, batch)
    payloads = {name: condition.positive for name, condition in base.conditions.items()}

    def predict(x: State, t: State, payloads: Payloads) -> State:
        return base.backbone.predict(x, t, payloads, base.plan)

    _check_answers("predicted", predict, x, t, {"condition": payloads}, tolerance)
    expect_state(_without_condition(base, x, t), x, "predict without a condition")


def check_own_guidance(base: Base, batch: int, tolerance: float) -> None:
    """Expect the guidance of a model's own, if it has any, to depend on a sample's own x, t and conditions."""
    own = own_guidance(base)
    if own is None or not any(c.negative is not None for c in base.conditions.values()):
        return
    x, t = _question(base, batch)
    conditions = {name: base.conditions.get(name, Condition()) for name in x}
    positive = {name: condition.positive for name, condition in conditions.items()}
    negative = {name: negative_of(condition) for name, condition in conditions.items()}

    def guided(x: State, t: State, positive: Payloads, negative: Payloads) -> State:
        return own.guided(x, t, positive, negative, dict.fromkeys(x, SCALE), base.plan)

    _check_answers("guided", guided, x, t, {"condition": positive, "negative condition": negative}, tolerance)


def _question(base: Base, batch: int) -> tuple[State, State]:
    """Return noise as x and a native time of its own for each sample."""
    levels = base.backbone.levels_at(torch.linspace(0.3, 0.8, batch), base.plan)
    shapes = {name: plan.latent_shape for name, plan in base.plan.modalities.items()}
    return noise(shapes, batch), {name: level.t for name, level in levels.items()}


def _check_answers(
    done: str, call: Callable[..., State], x: State, t: State, steering: Mapping[str, Payloads], tolerance: float
) -> None:
    """Expect results that are repeatable, depend on their own sample only, and leave the inputs unchanged."""
    tensors = {**x, **{f"{m} times": value for m, value in t.items()}}
    for kind, payloads in steering.items():
        tensors |= {k: v for m, payload in payloads.items() for k, v in tensors_of(payload, f"{m} {kind}").items()}
    conditions = tuple(steering.values())
    out = unchanged(lambda: call(x, t, *conditions), tensors)
    expect_state(out, x, call.__name__)
    again = undrawn(lambda: call(x, t, *conditions))
    expect_close(again, out, tolerance, f"{call.__name__} gives two answers to one question")
    for i in range(len(next(iter(x.values())))):
        alone = call(row(x, i), row(t, i), *({m: row_of(p, i) for m, p in payloads.items()} for payloads in conditions))
        expect_close(alone, row(out, i), tolerance, f"sample {i} is {done} otherwise alone: each has its own t")


def negative_of(condition: Condition) -> Payload:
    """Return the negative half of a condition, the condition itself where it has none."""
    return condition.positive if condition.negative is None else condition.negative


def _without_condition(base: Base, x: State, t: State) -> State:
    try:
        return base.backbone.predict(x, t, {}, base.plan)
    except Exception as error:
        raise AssertionError(f"predict fails without a condition, as training calls it ({error})") from error


def check_media(base: Base, batch: int, tolerance: float) -> None:
    """Expect media of the planned shape from latents, and latents from media."""
    latents = noise({name: plan.latent_shape for name, plan in base.plan.modalities.items()}, batch)
    media = noise({name: plan.media_shape for name, plan in base.plan.modalities.items()}, batch)
    media = {name: value.clamp(-1, 1) for name, value in media.items()}
    shown = unchanged(lambda: base.backbone.decode(latents, base.plan), latents)
    expect_state(shown, media, "decode")
    for name, value in shown.items():
        loudest = far_outside(value, base.modalities[name].kind in _AXES)
        expect(not loudest, f"{name}: decode gives {loudest:.3g}, far outside of [-1, 1]")
    again = undrawn(lambda: base.backbone.decode(latents, base.plan))
    expect_close(again, shown, tolerance, "decode gives two answers to one question")
    found = unchanged(lambda: base.backbone.encode(media, base.plan), media)
    expect_state(found, latents, "encode")
    again = undrawn(lambda: base.backbone.encode(media, base.plan))
    expect_close(again, found, tolerance, "encode gives two answers to one question")
    for i in range(batch if not isinstance(unwrap(base.backbone), Keyed) else 0):  # what draws is tried with its keys
        alone = base.backbone.decode(row(latents, i), base.plan)
        expect_close(alone, row(shown, i), tolerance, f"sample {i} is decoded otherwise alone")
        own = base.backbone.encode(row(media, i), base.plan)
        expect_close(own, row(found, i), tolerance, f"sample {i} is encoded otherwise alone")


def check_keys(base: Base, batch: int, tolerance: float) -> None:
    """Expect a model that draws random numbers, if this is one, to draw for each sample from that sample's key only."""
    if not isinstance(unwrap(base.backbone), Keyed):
        return
    keys = torch.arange(1, batch + 1)
    x, t = _question(base, batch)
    both = keyed(base.backbone, keys)
    together, shown = both.predict(x, t, {}, base.plan), both.decode(x, base.plan)
    for i in range(batch):
        own = keyed(base.backbone, keys[i : i + 1])
        alone = own.predict(row(x, i), row(t, i), {}, base.plan)
        expect_close(alone, row(together, i), tolerance, f"sample {i} draws otherwise alone: each has its own key")
        seen = own.decode(row(x, i), base.plan)
        expect_close(seen, row(shown, i), tolerance, f"sample {i} is decoded otherwise alone: each has its own key")
