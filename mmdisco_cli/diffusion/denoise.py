"""From base models to one denoiser: native predictions, CFG and guidance become x_0 and epsilon of every modality.

A denoiser is any function of the states and their levels; what changes one wraps it, so every sampler can use it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Base, Condition, Payload, State, inner, own_guidance
from mmdisco_cli.diffusion.guidance import Discriminator, Guidance, cfg_combine, guide, logit, reads_x0
from mmdisco_cli.diffusion.prediction import add_noise, at_least_float32, per_sample, to_x0_eps
from mmdisco_cli.diffusion.schedules import Levels
from mmdisco_cli.errors import PluginError
from mmdisco_cli.registry.blame import owner_of


@dataclass(frozen=True)
class Prediction:
    """Hold what is predicted of the states: x_0 and epsilon (B, ...) of each, and the logit (B,) where it is known."""

    x0: State
    epsilon: State
    logit: Tensor | None = None


# (states (B, ...), levels () or (B,)) -> prediction
Denoiser = Callable[[State, Mapping[str, Levels]], Prediction]


@dataclass(frozen=True)
class Given:
    """Hold what some modalities are known to be: clean states (B, ...) and the noise they are seen under.

    `levels` fixes the level at which a modality is seen; without one it follows the sampler's. Only a fixed clean level
    samples the conditional distribution: under the sampler's own, two unit Gaussians of correlation 0.8 come out with
    0.35. But the discriminator must know that pair of levels from its training.
    """

    clean: State
    noise: State
    levels: Mapping[str, Levels] = field(default_factory=dict)

    def beside(self, state: State, levels: Mapping[str, Levels]) -> tuple[State, dict[str, Levels]]:
        """Return the states with the given ones among them, each as it is seen at its level, and all levels."""
        seen = {**levels, **self.levels}
        noisy = {m: add_noise(x, self.noise[m], seen[m].alpha, seen[m].sigma) for m, x in self.clean.items()}
        return state | noisy, seen


@dataclass(frozen=True)
class JointDenoiser:
    """The denoiser of several models together, guided or not, which also gives the discriminator's logit on request.

    `cfg` overrides the models' own scales by modality. Models and discriminator run under autocast to `dtype`, or
    under the caller's own autocast where that is None; all the rest runs in float32. Models all of whose modalities are
    given are not evaluated. A `quantile` above 0 is that of `threshold`. The `discriminator` may guide, through
    `guidance`, or be there for its logit alone.
    """

    bases: Sequence[Base]
    guidance: Guidance | None = None
    cfg: Mapping[str, float] = field(default_factory=dict)
    dtype: torch.dtype | None = torch.float32
    given: Given | None = None
    quantile: float = 0.0
    discriminator: Discriminator | None = None

    def __call__(self, state: State, levels: Mapping[str, Levels]) -> Prediction:
        """Return x_0 and epsilon of the states (B, ...) at levels () or (B,), and the logit (B,) where it guides."""
        denoise = threshold(self._guided, self.quantile) if self.quantile else self._guided
        return (denoise if self.given is None else hold(denoise, self.given))(state, levels)

    def logit(self, state: State, levels: Mapping[str, Levels]) -> Tensor | None:
        """Return the logit (B,) of the states, given modalities as they are held; None without a discriminator."""
        discriminator = self.guidance.discriminator if self.guidance is not None else self.discriminator
        if discriminator is None:
            return None
        if self.given is not None:
            state, levels = self.given.beside(state, levels)
        with _autocast(state, self.dtype):
            return logit_of(discriminator, self.bases, state, levels, _pooled(self.bases)[0])

    def _guided(self, state: State, levels: Mapping[str, Levels]) -> Prediction:
        known = self.given.clean if self.given is not None else {}
        free = [base for base in self.bases if not base.modalities.keys() <= known.keys()]
        alone = without(predict_bases(free, state, levels, self.cfg, self.dtype), known)
        if self.guidance is None:
            return alone
        pooled, negative = _pooled(self.bases)
        guidance = replace(self.guidance, cfg={m: s for base in self.bases for m, s in _scales(base, self.cfg).items()})
        with _autocast(state, self.dtype):
            return Prediction(*guide(guidance, state, alone.x0, alone.epsilon, levels, pooled, known, negative))


def make_denoiser(
    bases: Sequence[Base],
    guidance: Guidance | None = None,
    cfg: Mapping[str, float] | None = None,
    dtype: torch.dtype | None = torch.float32,
    given: Given | None = None,
    quantile: float = 0.0,
) -> JointDenoiser:
    """Return the denoiser of these models together; see `JointDenoiser`."""
    return JointDenoiser(bases, guidance, cfg or {}, dtype, given, quantile)


@torch.no_grad()
def predict_bases(
    bases: Sequence[Base],
    state: Mapping[str, Tensor],
    levels: Mapping[str, Levels],
    cfg: Mapping[str, float] | None = None,
    dtype: torch.dtype | None = torch.float32,
) -> Prediction:
    """Return the prediction of every model for its own states, each alone: the independent prediction."""
    x0: State = {}
    epsilon: State = {}
    for base in bases:
        with _autocast(state, dtype):
            native = _native(base, state, levels, cfg or {})
        _require_like(native, state, base)
        for m, info in base.modalities.items():
            level = levels[m]
            x0[m], epsilon[m] = to_x0_eps(native[m], state[m], level.alpha, level.sigma, info.prediction)
    return Prediction(x0, epsilon)


@torch.no_grad()
def logit_of(
    discriminator: Discriminator,
    bases: Sequence[Base],
    state: Mapping[str, Tensor],
    levels: Mapping[str, Levels],
    pooled: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Return the logit (B,) of noisy states, evaluating the models first where the discriminator reads their x_0."""
    x0 = predict_bases(bases, state, levels, unguided(state)).x0 if reads_x0(discriminator) else None
    return logit(discriminator, state, levels, pooled, x0)


def unguided(modalities: Iterable[str]) -> dict[str, float]:
    """Return the CFG scales that leave every model as it is: the distribution that a discriminator corrects."""
    return dict.fromkeys(modalities, 1.0)


def hold(denoise: Denoiser, given: Given) -> Denoiser:
    """Return a denoiser that sees the given modalities at x_u = alpha * x_0 + sigma * epsilon and predicts just these.

    Whatever a sampler makes of their states is overridden, so they end at the given x_0 with every sampler.
    """

    def held(state: State, levels: Mapping[str, Levels]) -> Prediction:
        rest = denoise(*given.beside(state, levels))
        return replace(rest, x0=rest.x0 | given.clean, epsilon=rest.epsilon | given.noise)

    return held


def threshold(denoise: Denoiser, quantile: float = 0.995, modalities: Collection[str] | None = None) -> Denoiser:
    """Return a denoiser with dynamic thresholding of x_0, of all modalities by default (Saharia et al. 2022, sec. 2.3).

    Epsilon is made to agree with the new x_0, as DPM-Solver++ needs.
    """

    def thresholded(state: State, levels: Mapping[str, Levels]) -> Prediction:
        prediction = denoise(state, levels)
        chosen = prediction.x0.keys() if modalities is None else modalities
        x0 = {m: clip_to_quantile(prediction.x0[m], quantile) for m in chosen}
        pairs = {m: to_x0_eps(x, state[m], levels[m].alpha, levels[m].sigma, "sample") for m, x in x0.items()}
        return replace(
            prediction, x0=prediction.x0 | x0, epsilon=prediction.epsilon | {m: e for m, (_, e) in pairs.items()}
        )

    return thresholded


def clip_to_quantile(x0: Tensor, quantile: float) -> Tensor:
    """Return x_0 (B, ...) clipped to s and divided by it, s >= 1 being each sample's quantile of |x_0|."""
    magnitudes = x0.abs().flatten(1).sort(dim=1).values
    # Interpolated by hand: torch.quantile refuses more than 16 million values, a short clip of pixels.
    position = quantile * (magnitudes.shape[1] - 1)
    below = magnitudes[:, int(position)]
    above = magnitudes[:, min(int(position) + 1, magnitudes.shape[1] - 1)]
    s = per_sample(torch.lerp(below, above, position - int(position)).clamp(min=1), x0)
    return x0.clamp(-s, s) / s


def without(prediction: Prediction, modalities: Collection[str]) -> Prediction:
    """Return the prediction with some modalities left out."""
    x0 = {m: x for m, x in prediction.x0.items() if m not in modalities}
    return replace(prediction, x0=x0, epsilon={m: prediction.epsilon[m] for m in x0})


def _native(base: Base, state: Mapping[str, Tensor], levels: Mapping[str, Levels], cfg: Mapping[str, float]) -> State:
    """Return a model's native output, guided its own way or by both halves of classifier-free guidance in one batch."""
    names = base.modalities
    conditions = {m: base.conditions.get(m, Condition()) for m in names}
    scales = _scales(base, cfg)
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
    """Raise PluginError where a model's output has not the form of its states: anything would broadcast to some."""
    for m in base.modalities:
        found = native.get(m) if isinstance(native, Mapping) else native
        shape = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        if shape != tuple(state[m].shape):
            owner = owner_of(inner(base.backbone))
            whose = f"plugin {owner}: " if owner else ""
            raise PluginError(f"{whose}the prediction of {m} is {shape}, not {tuple(state[m].shape)}")


def _stack(first: Payload, second: Payload) -> Payload:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return torch.cat([first, second])
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return {key: torch.cat([first[key], second[key]]) for key in first}
    if first is None and second is None:
        return None
    raise TypeError("the positive and negative conditions of a modality must have one form")


def _scales(base: Base, cfg: Mapping[str, float]) -> dict[str, float]:
    """Return the CFG scale of each of a model's modalities, 1 where there is nothing negative to leave."""
    conditions = {m: base.conditions.get(m, Condition()) for m in base.modalities}
    return {
        m: cfg.get(m, info.cfg_scale) if conditions[m].negative is not None else 1.0
        for m, info in base.modalities.items()
    }


def _pooled(bases: Sequence[Base]) -> tuple[dict[str, Tensor] | None, dict[str, Tensor] | None]:
    """Return the pooled conditions by modality, and the negative ones; None where there are none."""
    conditions = {m: c for base in bases for m, c in base.conditions.items()}
    positive = {m: c.pooled for m, c in conditions.items() if c.pooled is not None}
    negative = {m: c.pooled_negative for m, c in conditions.items() if c.pooled_negative is not None}
    return positive or None, negative or None


def _autocast(state: Mapping[str, Tensor], dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    if dtype is None:
        return nullcontext()
    device = next(iter(state.values())).device.type
    return torch.autocast(device, dtype, enabled=dtype != torch.float32)
