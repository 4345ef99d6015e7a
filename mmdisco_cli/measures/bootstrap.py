"""Intervals for what is measured of clips: percentile bootstrap over clips, all from one seeded draw.

Distances and coverage cannot be computed again from clips drawn with replacement: a clip that is drawn twice has itself
for its nearest neighbour, and a Frechet distance grows with every clip that is missing. To first order a set in which
clip i occurs c_i times has the figure `value` + sum over i of c_i influence_i, and that is what is drawn of these.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

RESAMPLES = 2000
COVERAGE = 0.95
INTERVAL = (
    f"95 %, percentiles of {RESAMPLES} bootstrap draws by clip; of what is not a mean over clips (distances, density, "
    "coverage, diversity) through the influence of each clip, scaled to the error where there is one"
)
"""How every interval of a report is made."""
LEAST = 6
"""Clips, or pairs of clips, that any conclusion takes: all of 5 lean one way by chance once in 16."""
FIRST, UNPAIRED, REFERENCE = 0, 1, 3
"""Streams of draws: those of samples, of samples that share no noise with these, and of the reference.

Samples of one noise are drawn together, and so is the reference of two figures that are compared.
"""
AT_ONCE = 1 << 16
"""Counts that are held at a time."""


@dataclass(frozen=True)
class Estimate:
    """A figure and the interval that holds it with 95 % confidence; NaN where it is undefined."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float | None]:
        """Return the three as JSON can hold them, None for NaN."""
        return {"value": finite(self.value), "low": finite(self.low), "high": finite(self.high)}


@dataclass(frozen=True)
class Measure:
    """A figure of a set of clips that depends only on sums over them.

    `sums` is (N, S), a row a clip, float64; `of` maps totals (..., S) to figures (...). Whatever is written like this
    can be resampled by clip without touching the clips again.
    """

    sums: Tensor
    of: Callable[[Tensor], Tensor]

    @property
    def value(self) -> Tensor:
        """Return the figure of the whole set, ()."""
        return self.of(self.sums.sum(0))

    def resampled(self, counts: Tensor) -> Tensor:
        """Return the figure (R,) of sets in which clip i occurs counts[:, i] times."""
        return self.of(counts @ self.sums)

    def drawn(self, seed: int, stream: int = 0) -> Tensor:
        """Return the figure (R,) of as many clips drawn with replacement, over and over."""
        return torch.cat([self.resampled(part) for part in blocks(len(self.sums), seed, stream)])


def finite(value: float) -> float | None:
    """Return a number as JSON can hold it."""
    return value if abs(value) < float("inf") else None


def blocks(n: int, seed: int, stream: int = 0) -> Iterator[Tensor]:
    """Yield (R, n), how often each of n clips is drawn in n draws with replacement; another `stream`, other draws.

    A few rows come at a time, 2,000 in all, so that memory does not grow with the clips.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + stream)
    rows = max(1, AT_ONCE // max(1, n))
    for first in range(0, RESAMPLES, rows):
        drawn = torch.randint(n, (min(rows, RESAMPLES - first), n), generator=generator)
        one = torch.ones((), dtype=torch.float64).expand(drawn.shape)
        yield torch.zeros(drawn.shape, dtype=torch.float64).scatter_add_(1, drawn, one)


def estimate(measure: Measure, seed: int) -> Estimate:
    """Return a figure with its interval; one clip has none: whatever is drawn from it is itself."""
    return interval(measure.value, measure.drawn(seed)) if len(measure.sums) > 1 else _alone(measure.value)


def interval(value: Tensor, resampled: Tensor) -> Estimate:
    """Return a figure () with the percentiles of its resampled values (R,); those that are undefined are left out."""
    kept = resampled[resampled.isfinite()]
    # One value in a hundred may be undefined by bad luck; more, and an interval would hide it.
    if len(kept) < 0.99 * len(resampled):
        return _alone(value)
    tail = (1 - COVERAGE) / 2
    low, high = torch.quantile(kept, torch.tensor([tail, 1 - tail], dtype=kept.dtype)).tolist()
    return Estimate(float(value), low, high)


def gap_closed(real: Measure, independent: Measure, guided: Measure, seed: int) -> Estimate:
    """Return (guided - independent) / (real - independent), NaN where real clips are not above independent samples.

    Sample i of both runs begins with the same noise, so they are resampled together where there are as many.
    """

    def closed(top: Tensor, floor: Tensor, reached: Tensor) -> Tensor:
        gap = top - floor
        return torch.where(gap > 0, (reached - floor) / gap, torch.nan)

    value = closed(real.value, independent.value, guided.value)
    if min(len(one.sums) for one in (real, independent, guided)) < 2:
        return _alone(value)
    alone = 0 if len(independent.sums) == len(guided.sums) else 1
    drawn = closed(real.drawn(seed, 2), independent.drawn(seed, alone), guided.drawn(seed))
    return interval(value, drawn)


def mean_of(values: Sequence[float | None]) -> Measure:
    """Return the mean over the clips for which there is a value."""
    rows = [(0.0, 0.0) if value is None else (value, 1.0) for value in values]
    return Measure(torch.tensor(rows, dtype=torch.float64).reshape(-1, 2), ratio)


def shares(counts: Tensor, labels: Sequence[str], seed: int) -> dict[str, dict[str, float | None]]:
    """Return the share of each class by its label, with intervals, of counts (N, K) of K classes in each clip."""
    counts, total = counts.double(), counts.double().sum(1)
    measures = (Measure(torch.stack([column, total], 1), ratio) for column in counts.unbind(1))
    return {label: estimate(one, seed).as_json() for label, one in zip(labels, measures, strict=True)}


def mean_measure(measures: Sequence[Measure]) -> Measure:
    """Return the mean of figures of one kind of the same N clips, which are drawn together."""
    of, width = measures[0].of, measures[0].sums.shape[1]

    def mean(totals: Tensor) -> Tensor:
        return torch.stack([of(part) for part in totals.split(width, -1)]).mean(0)

    return Measure(torch.cat([one.sums for one in measures], 1), mean)


def _alone(value: Tensor) -> Estimate:
    return Estimate(float(value), float("nan"), float("nan"))


def ratio(totals: Tensor) -> Tensor:
    """Return first over second of totals (..., 2), NaN where the second is 0."""
    return totals[..., 0] / totals[..., 1].where(totals[..., 1] != 0, torch.nan)


def correlation(totals: Tensor) -> Tensor:
    """Return Pearson's correlation from totals (..., 6) of 1, x, y, x^2, y^2, x y; NaN below 3 pairs or for constants.

    Values are of order 1 to 10 here, so that raw moments in float64 keep twelve digits.
    """
    n, x, y, xx, yy, xy = totals.unbind(-1)
    spread = (n * xx - x.square()).clamp_min(0) * (n * yy - y.square()).clamp_min(0)
    known = (n > 2) & (spread > 1e-9)
    return torch.where(known, (n * xy - x * y) / spread.where(known, torch.ones_like(spread)).sqrt(), torch.nan)


@dataclass(frozen=True)
class Influenced:
    """A figure () and the influence (N,) of each clip of a set, 0 in the mean, by the stream by which it is drawn.

    `least` and `most` are what the figure can be at all.
    """

    value: Tensor
    influence: Mapping[int, Tensor]
    least: float = -float("inf")
    most: float = float("inf")

    @property
    def error(self) -> float:
        """Return the standard error that the influences amount to."""
        return math.sqrt(sum(float(one.square().sum()) for one in self.influence.values()))

    def drawn(self, seed: int) -> Tensor:
        """Return the figure (R,) of as many clips drawn with replacement from each set, over and over."""
        found = self.value
        for stream, one in self.influence.items():
            found = found + torch.cat([counts @ one for counts in blocks(len(one), seed, stream)])
        kept: Tensor = found.clamp(self.least, self.most)
        return kept

    def estimate(self, seed: int) -> Estimate:
        """Return the figure with its interval; a set of one clip has none."""
        if min(len(one) for one in self.influence.values()) < 2:
            return Estimate(float(self.value), float("nan"), float("nan"))
        return interval(self.value, self.drawn(seed))


def mean_influenced(figures: Sequence[Influenced]) -> Influenced:
    """Return the mean of figures of the same sets of clips, which are drawn together."""
    streams = figures[0].influence
    influence = {stream: torch.stack([one.influence[stream] for one in figures]).mean(0) for stream in streams}
    first = figures[0]
    return Influenced(torch.stack([one.value for one in figures]).mean(), influence, first.least, first.most)


def from_left_out(values: Tensor) -> Tensor:
    """Return the influence of each clip from the figure without it, (N,): its variance is that of the jackknife."""
    n = len(values)
    return (values.mean() - values) * math.sqrt((n - 1) / n)


def difference(first: Influenced, second: Influenced) -> Influenced:
    """Return the first figure less the second; what both draw from one stream is drawn together."""
    streams = dict.fromkeys((*first.influence, *second.influence))
    influence = {stream: _less(first.influence.get(stream), second.influence.get(stream)) for stream in streams}
    return Influenced(first.value - second.value, influence)


def over(first: Influenced, second: Influenced) -> Influenced:
    """Return the first figure over the second, to first order; both draw from streams as `difference` does."""
    ratio = first.value / second.value
    scaled = Influenced(first.value, {k: one / second.value for k, one in first.influence.items()})
    weighed = Influenced(second.value, {k: one * ratio / second.value for k, one in second.influence.items()})
    return Influenced(ratio, difference(scaled, weighed).influence, least=0.0)


def _less(first: Tensor | None, second: Tensor | None) -> Tensor:
    if first is None or second is None:
        return first if first is not None else -second  # type: ignore[operator]
    return first - second
