"""Kernel distance between two sets of features: the unbiased squared maximum mean discrepancy (Gretton et al., 2012).

With the kernel (x.y / D + 1)^3 of Binkowski et al. (2018). It is flat in the number of clips, where a Frechet distance
is mostly bias, and around 0, at times below, for two sets of one law.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from mmdisco_cli.measures.bootstrap import finite

LEAST_SCALE = 0.25
"""Features that vary less than this share of the root mean square over all are not blown up to the size of the others:
one ball in a corner that is empty in the reference would else outweigh everything."""

SUBSETS, SUBSET = 100, 1000
BLOCK = 128

Scale = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Distance:
    """A kernel distance, or a ratio of two, and its jackknife standard error; NaN where there are too few clips."""

    value: float
    error: float

    def as_json(self) -> dict[str, float | None]:
        """Return both as JSON can hold them, None for NaN."""
        return {"value": finite(self.value), "error": finite(self.error)}


@dataclass(frozen=True)
class LeftOut:
    """A kernel distance () and what it becomes without each clip of the first (N,) and of the second set (M,)."""

    value: Tensor
    first: Tensor
    second: Tensor


def kernel_distance(x: Tensor, reference: Tensor, scale: Scale | None = None) -> Distance:
    """Return the distance of features (N, D) from those of a reference set (M, D), which also sets their scale."""
    out = left_out(*(scale or standardised)(x, reference))
    return Distance(float(out.value), (_spread(out.first) + _spread(out.second)) ** 0.5)


def distance_ratio(x: Tensor, y: Tensor, reference: Tensor, scale: Scale | None = None) -> Distance:
    """Return the distance of x over that of y; if as many, clip i of x and of y share their noise and go together."""
    a, b = (left_out(*(scale or standardised)(features, reference)) for features in (x, y))
    if len(a.first) == len(b.first):
        spread = _spread(a.first / b.first)
    else:
        spread = _spread(a.first / b.value) + _spread(a.value / b.first)
    return Distance(float(a.value / b.value), (spread + _spread(a.second / b.second)) ** 0.5)


def standardised(x: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Return both sets in float64, shifted by the mean of the reference and scaled by its deviation, with a floor."""
    x, reference = x.double(), reference.double()
    std = reference.std(0, unbiased=False)
    floor = LEAST_SCALE * std.square().mean().sqrt()
    scale = torch.where(floor > 0, std.maximum(floor), 1.0)
    centre = reference.mean(0)
    return (x - centre) / scale, (reference - centre) / scale


def as_they_are(x: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Return both sets in float64."""
    return x.double(), reference.double()


def over_rms(x: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Return both sets in float64, over the root mean square of the reference: the kernel is not scale invariant."""
    size = reference.double().square().mean().sqrt()
    size = torch.where(size > 0, size, 1.0)
    return x.double() / size, reference.double() / size


def left_out(x: Tensor, y: Tensor) -> LeftOut:
    """Return the unbiased estimate between features (N, D) and (M, D), whole and without each clip in turn.

    All of it from the row sums of the kernel matrices: nothing is computed twice.
    """
    n, m = len(x), len(y)
    own_x, own_y, (rows, columns) = _off_diagonal(x), _off_diagonal(y), _sums(x, y)
    a, b, total = _pairs(own_x.sum(), n), _pairs(own_y.sum(), m), rows.sum()
    whole = a + b - 2 * total / (n * m)
    without_x = _pairs(own_x.sum() - 2 * own_x, n - 1) + b - 2 * (total - rows) / max((n - 1) * m, 1)
    without_y = a + _pairs(own_y.sum() - 2 * own_y, m - 1) - 2 * (total - columns) / max(n * (m - 1), 1)
    return LeftOut(whole, without_x, without_y)


def over_subsets(x: Tensor, y: Tensor, seed: int = 0, count: int = SUBSETS, size: int = SUBSET) -> Distance:
    """Return mean and standard deviation of the unscaled estimate over random subsets, as KID is published.

    Subsets have `size` clips, or half of the smaller set where that is less.
    """
    generator = torch.Generator().manual_seed(seed)
    size = min(size, min(len(x), len(y)) // 2)

    def draw(rows: Tensor) -> Tensor:
        return rows[torch.randperm(len(rows), generator=generator)[:size]]

    found = torch.stack([left_out(draw(x), draw(y)).value for _ in range(count)])
    return Distance(float(found.mean()), float(found.std()))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _sums(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the kernel matrix summed over columns (N,) and over rows (M,), in blocks: memory stays flat."""
    rows, columns = [], x.new_zeros(len(y))
    for part in x.split(BLOCK):
        block = _kernel(part, y)
        rows.append(block.sum(1))
        columns = columns + block.sum(0)
    return torch.cat(rows), columns


def _off_diagonal(x: Tensor) -> Tensor:
    """Return each clip's kernel summed over the other clips of its set, (N,)."""
    own = (x.square().sum(1) / x.shape[1] + 1) ** 3
    return _sums(x, x)[0] - own


def _pairs(total: Tensor, n: int) -> Tensor:
    return total / (n * (n - 1)) if n > 1 else torch.full_like(total, torch.nan)


def _spread(values: Tensor) -> float:
    """Return the jackknife variance of a statistic from its values with one clip left out."""
    n = len(values)
    return float((values - values.mean()).square().sum() * (n - 1) / n)
