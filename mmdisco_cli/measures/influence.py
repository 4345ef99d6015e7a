"""Intervals of figures that are no means over clips: the same bootstrap by clip, over what each clip adds to a figure.

Distances and coverage cannot be computed again from clips drawn with replacement: a clip that is drawn twice has itself
for its nearest neighbour, and a Frechet distance grows with every clip that is missing. To first order a set in which
clip i occurs c_i times has the figure `value` + sum over i of c_i influence_i, and that is what is drawn.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mmdisco_cli.measures.bootstrap import Estimate, blocks, interval

FIRST, UNPAIRED, REFERENCE = 0, 1, 3
"""Streams of draws: those of samples, of samples that share no noise with these, and of the reference.

Samples of one noise are drawn together, and so is the reference of two figures that are compared.
"""


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
