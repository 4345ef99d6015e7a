"""From base models to one denoiser: native predictions, CFG and guidance become x_0 and epsilon of every modality.

A denoiser is any function of the states and their noise levels; modifications wrap one, so every sampler can use them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mmdisco_cli.diffusion.adapting import Base
from mmdisco_cli.diffusion.base_models import Denoiser, Prediction, autocast, cfg_scales, predict_bases
from mmdisco_cli.diffusion.contract import State
from mmdisco_cli.diffusion.guidance import Discriminator, Guidance, guide, logit, reads_x0
from mmdisco_cli.diffusion.prediction import add_noise, per_sample, to_x0_eps
from mmdisco_cli.diffusion.schedules import Levels

__all__ = [
    "Denoiser",
    "Given",
    "JointDenoiser",
    "Prediction",
    "clip_to_quantile",
    "logit_of",
    "make_denoiser",
    "predict_bases",
    "threshold",
    "unguided_scales",
    "with_given",
    "without_modalities",
]


@dataclass(frozen=True)
class Given:
    """Modalities that are given rather than sampled: their clean states (B, ...), and the noise added to them.

    `levels` fixes the level that a given modality is noised to; without one it follows the sampler's. Only a fixed,
    almost clean level samples the conditional distribution: at the sampler's own levels, two unit Gaussians of
    correlation 0.8 come out with 0.35. But the discriminator must have been trained on such pairs of levels.
    """

    clean: State
    noise: State
    levels: Mapping[str, Levels] = field(default_factory=dict)

    def beside(self, state: State, levels: Mapping[str, Levels]) -> tuple[State, dict[str, Levels]]:
        """Return the states with the given ones, each noised to its level, and all levels."""
        all_levels = {**levels, **self.levels}
        noisy = {
            m: add_noise(x, self.noise[m], all_levels[m].alpha, all_levels[m].sigma) for m, x in self.clean.items()
        }
        return state | noisy, all_levels


@dataclass(frozen=True)
class JointDenoiser:
    """The denoiser of several models together, guided or not, which also gives the discriminator's logit on request.

    `cfg` overrides the models' own CFG scales by modality. Models and discriminator run under autocast to `dtype`, or
    under the caller's own autocast where that is None; all the rest runs in float32. Models all of whose modalities are
    given are not evaluated. A `quantile` above 0 is that of `threshold`. `discriminator` is evaluated by `logit` where
    there is no `guidance`, whose own discriminator comes first.
    """

    bases: Sequence[Base]
    guidance: Guidance | None = None
    cfg: Mapping[str, float] = field(default_factory=dict)
    dtype: torch.dtype | None = torch.float32
    given: Given | None = None
    quantile: float = 0.0
    discriminator: Discriminator | None = None

    def __call__(self, state: State, levels: Mapping[str, Levels]) -> Prediction:
        """Return x_0 and epsilon of states (B, ...) at levels () or (B,), and the logit (B,) where guidance acts."""
        denoise = threshold(self._guided, self.quantile) if self.quantile else self._guided
        return (denoise if self.given is None else with_given(denoise, self.given))(state, levels)

    def logit(self, state: State, levels: Mapping[str, Levels]) -> Tensor | None:
        """Return the logit (B,) of the states, given modalities included; None without a discriminator."""
        discriminator = self.guidance.discriminator if self.guidance is not None else self.discriminator
        if discriminator is None:
            return None
        if self.given is not None:
            state, levels = self.given.beside(state, levels)
        with autocast(state, self.dtype):
            return logit_of(discriminator, self.bases, state, levels, _pooled(self.bases)[0])

    def _guided(self, state: State, levels: Mapping[str, Levels]) -> Prediction:
        known = self.given.clean if self.given is not None else {}
        free = [base for base in self.bases if not base.modalities.keys() <= known.keys()]
        alone = without_modalities(predict_bases(free, state, levels, self.cfg, self.dtype), known)
        if self.guidance is None:
            return alone
        pooled, negative = _pooled(self.bases)
        guidance = replace(
            self.guidance, cfg={m: s for base in self.bases for m, s in cfg_scales(base, self.cfg).items()}
        )
        with autocast(state, self.dtype):
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
def logit_of(
    discriminator: Discriminator,
    bases: Sequence[Base],
    state: Mapping[str, Tensor],
    levels: Mapping[str, Levels],
    pooled: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Return the logit (B,) of noisy states, evaluating the models first where the discriminator reads their x_0."""
    x0 = predict_bases(bases, state, levels, unguided_scales(state)).x0 if reads_x0(discriminator) else None
    return logit(discriminator, state, levels, pooled, x0)


def unguided_scales(modalities: Iterable[str]) -> dict[str, float]:
    """Return CFG scales of 1: without CFG a model has the distribution that a discriminator was trained to correct."""
    return dict.fromkeys(modalities, 1.0)


def with_given(denoise: Denoiser, given: Given) -> Denoiser:
    """Return a denoiser with some modalities given: their states are noised from `given`, their predictions exact.

    What a sampler makes of their states is ignored, so they end at the given x_0 with every sampler.
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


def without_modalities(prediction: Prediction, modalities: Collection[str]) -> Prediction:
    """Return the prediction with some modalities left out."""
    x0 = {m: x for m, x in prediction.x0.items() if m not in modalities}
    return replace(prediction, x0=x0, epsilon={m: prediction.epsilon[m] for m in x0})


def _pooled(bases: Sequence[Base]) -> tuple[dict[str, Tensor] | None, dict[str, Tensor] | None]:
    """Return the pooled conditions by modality, and the negative ones; None where there are none."""
    conditions = {m: c for base in bases for m, c in base.conditions.items()}
    positive = {m: c.pooled for m, c in conditions.items() if c.pooled is not None}
    negative = {m: c.pooled_negative for m, c in conditions.items() if c.pooled_negative is not None}
    return positive or None, negative or None
