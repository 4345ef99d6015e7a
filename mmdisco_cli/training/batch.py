"""A batch of training: clean tuples, the noise levels drawn for them, and the noisy tuples that networks are given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Base, Condition, State
from mmdisco_cli.diffusion.coupling import Coupling, coupled_levels, given_levels
from mmdisco_cli.diffusion.prediction import per_sample
from mmdisco_cli.diffusion.schedules import Levels, log_snr
from mmdisco_cli.errors import UsageError
from mmdisco_cli.recipes.schema import LevelDistributionConfig, TrainConfig
from mmdisco_cli.training.pairing import Captions, Partners

LevelsAt = Callable[[Tensor], Levels]
"""A noise schedule: progress u (B,) in [0, 1] to levels (B,)."""


@dataclass(frozen=True)
class Batch:
    """Tuples drawn together: clean latents (B, ...) by modality, row by row of the same clips unless re-paired.

    Where clips have captions, `texts` are those of each row by modality, empty where dropped or missing; `labels` their
    classes; `rows` (B,) their places in the training set; and `comparable` (B,) says which rows are of use to the
    classification: a row that could not be re-paired is not. Whatever else comes to belong to a modality of a clip has
    to follow it through the methods here.
    """

    latents: State
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    labels: Sequence[str] = ()
    rows: Tensor | None = None
    comparable: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of tuples."""
        return len(next(iter(self.latents.values())))

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on a device."""
        latents = {m: x.to(device) for m, x in self.latents.items()}
        return replace(self, latents=latents, comparable=_each(lambda x: x.to(device), self.comparable))

    def shuffled(self, generator: torch.Generator) -> "Batch":
        """Return it re-paired so that no modality keeps its partner: the k-th moves on by k places of a random order.

        With texts it moves only among rows of one label or equal texts, or where no text is seen; the texts stay.

        Raises:
            ValueError: fewer tuples than modalities.
        """
        batch = len(self)
        if batch < len(self.latents):
            raise ValueError(f"re-pairing {len(self.latents)} modalities needs as many tuples, got {batch}")
        if self.texts:
            return self._shuffled_within_texts(generator)
        order = torch.randperm(batch, generator=generator)
        return Batch({m: x[order.roll(k)] for k, (m, x) in enumerate(self.latents.items())})

    def _shuffled_within_texts(self, generator: torch.Generator) -> "Batch":
        own = torch.arange(len(self))
        captions = Captions({m: tuple(texts) for m, texts in self.texts.items()}, tuple(self.labels))
        partners, found = Partners(captions.keys).draw(own, captions.missing, len(self.latents) - 1, generator)
        places = [own, *partners]
        latents = {m: x[places[k].to(x.device)] for k, (m, x) in enumerate(self.latents.items())}
        return replace(self, latents=latents, comparable=found.to(next(iter(latents.values())).device))

    def followed_by(self, other: "Batch") -> "Batch":
        """Return the tuples of both, these first; they must have texts, labels and so on both or neither."""
        joined = [_joined(getattr(self, key), getattr(other, key)) for key in ("rows", "comparable")]
        texts = {m: [*own, *other.texts[m]] for m, own in self.texts.items()}
        latents = {m: torch.cat([x, other.latents[m]]) for m, x in self.latents.items()}
        return Batch(latents, texts, [*self.labels, *other.labels], *joined)


def _each(change: Callable[[Tensor], Tensor], value: Tensor | None) -> Tensor | None:
    return None if value is None else change(value)


def _joined(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    return None if first is None or second is None else torch.cat([first, second])


@dataclass(frozen=True)
class NoisyBatch:
    """Tuples of noisy states (B, ...) by modality, the noise (B, ...) in them, and their levels (B,).

    With captions also what each modality is conditioned on, and `comparable` (B,) as in `Batch`.
    """

    states: State
    noise: State
    levels: Mapping[str, Levels]
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    comparable: Tensor | None = None

    @property
    def pooled(self) -> State | None:
        """Return the conditions (B, D) for the discriminator by modality, None where there are none."""
        return {m: c.pooled for m, c in self.conditions.items() if c.pooled is not None} or None


def noised(batch: Batch, levels: Mapping[str, Levels], generator: torch.Generator) -> NoisyBatch:
    """Return a batch at levels (B,), Eq. (1) of MMDisCo; the noise is drawn modality by modality."""
    clean = batch.latents
    noise = {m: torch.randn(x.shape, generator=generator).to(x.device) for m, x in clean.items()}
    states = {
        m: per_sample(levels[m].alpha, x) * x + per_sample(levels[m].sigma, x) * noise[m] for m, x in clean.items()
    }
    return NoisyBatch(states, noise, levels, comparable=batch.comparable)


def mismatched(states: Mapping[str, Tensor], groups: int | None = None) -> State:
    """Give every state (B, ...) other partners of its own noise level, in a batch whose levels repeat `groups` times.

    The k-th of M modalities moves on by k * B / groups rows, so that no two stay together; by default M groups.
    """
    step = len(next(iter(states.values()))) // (groups or len(states))
    return {m: x.roll(k * step, 0) for k, (m, x) in enumerate(states.items())}


def draw_progress(
    distribution: LevelDistributionConfig, levels_at: LevelsAt, batch: int, generator: torch.Generator
) -> Tensor:
    """Return progress u (B,) in [0, 1], stratified over the batch so that a step sees every part of the schedule.

    Under the `logsnr-normal` distribution the log-SNR of `levels_at` is normal.
    """
    strata = (torch.arange(batch) + torch.rand(batch, generator=generator)) / batch
    strata = strata[torch.randperm(batch, generator=generator)]
    if distribution.name == "uniform":
        return strata
    drawn = distribution.mean + distribution.std * torch.special.ndtri(strata.double().clamp(1e-6, 1 - 1e-6))
    return _progress_at(drawn, levels_at)


def shifted(u: Tensor, levels_at: LevelsAt, shift: float) -> Tensor:
    """Return the progress (B,) at which the log-SNR is that of u (B,) plus `shift`, within the schedule."""
    levels = levels_at(u)
    return _progress_at(log_snr(levels.alpha, levels.sigma).double() + shift, levels_at)


def _progress_at(lam: Tensor, levels_at: LevelsAt) -> Tensor:
    """Return the progress (B,) at a log-SNR (B,), inverted on a fine grid."""
    u = torch.linspace(0, 1, 4097, dtype=torch.float64)
    levels = levels_at(u)
    return _interpolate(lam, log_snr(levels.alpha, levels.sigma).double().flip(0), u.flip(0)).float()


def _interpolate(x: Tensor, xs: Tensor, ys: Tensor) -> Tensor:
    """Return y(x) on the polyline through (xs, ys), `xs` ascending; constant outside its ends."""
    right = torch.searchsorted(xs, x).clamp(1, len(xs) - 1)
    share = ((x - xs[right - 1]) / (xs[right] - xs[right - 1]).clamp_min(1e-12)).clamp(0, 1)
    return ys[right - 1] + share * (ys[right] - ys[right - 1])


@dataclass(frozen=True)
class LevelSampler:
    """Draws the levels of all modalities that a discriminator is trained at, and must then be sampled with.

    `distribution` is that of the first modality of the first model; the others follow by `coupling`.
    """

    bases: Sequence[Base]
    coupling: Coupling
    distribution: LevelDistributionConfig
    given_fraction: float = 0.0
    given_shares: Sequence[float] = ()
    """How often each base model's modalities are the clean ones, relative to the others; empty for equally often."""
    given_shift: float = 0.0
    """Added to the log-SNR of what is not clean, in rows where another is."""

    @cached_property
    def _clean(self) -> dict[str, Levels]:
        """Return the levels of given modalities, whose search takes as long as a tenth of a step."""
        return given_levels(self.bases)

    def draw(self, batch: int, generator: torch.Generator) -> dict[str, Levels]:
        """Return each modality's levels (B,).

        In a share of the rows one base model's modalities are almost clean while the others keep their level: what
        `--given` samples with. A model of several modalities was never trained with a gap between them, so they go
        together.
        """
        u = draw_progress(self.distribution, self._levels_of_first, batch, generator)
        if not self.given_fraction or len(self.bases) == 1:
            return coupled_levels(self.bases, u, self.coupling)
        held = torch.rand(batch, generator=generator) < self.given_fraction
        which = self._clean_ones(batch, generator)
        if self.given_shift:
            u = torch.where(held, shifted(u, self._levels_of_first, self.given_shift), u)
        levels, clean = coupled_levels(self.bases, u, self.coupling), self._clean
        return {
            m: Levels(*(torch.where(held & (which == k), c, x) for c, x in zip(clean[m], levels[m], strict=True)))
            for k, base in enumerate(self.bases)
            for m in base.modalities
        }

    def _levels_of_first(self, u: Tensor) -> Levels:
        """Return the levels (B,) of the first modality of the first model at its progress u (B,)."""
        first = self.bases[0]
        return first.backbone.levels_at(u, first.plan)[next(iter(first.modalities))]

    def _clean_ones(self, batch: int, generator: torch.Generator) -> Tensor:
        """Return for each row (B,) the number of the base model that is clean where one is."""
        if not self.given_shares:
            return torch.randint(len(self.bases), (batch,), generator=generator)
        return torch.multinomial(torch.tensor(self.given_shares), batch, replacement=True, generator=generator)


def shares_of(bases: Sequence[Base], named: Mapping[str, float]) -> list[float]:
    """Return how often each base model is the clean one, from shares by modality; empty for equally often.

    A model's modalities go together, so the first of them that has a share decides; the share of a model without is 1.

    Raises:
        UsageError: all are 0.
    """
    if not named:
        return []
    shares = [next((named[m] for m in base.modalities if m in named), 1.0) for base in bases]
    if not any(shares):
        raise UsageError("train.given_shares: all are 0, so that none can be clean: set train.given_fraction to 0")
    return shares


def repeated(levels: Mapping[str, Levels], times: int) -> dict[str, Levels]:
    """Return levels (B,) as (times * B,), the whole batch again and again."""
    return {m: Levels(*(part.repeat(times) for part in level)) for m, level in levels.items()}


def groups_of(real: object, config: TrainConfig, modalities: int, batch: int) -> int:
    """Return how many of `batch` tuples share each draw of noise levels, among which they are re-paired.

    Where tuples have texts, their source decides what may be re-paired.
    """
    sets = getattr(real, "sets", None)
    return sets if isinstance(sets, int) else max(min(config.tuples_per_level, batch), modalities)
