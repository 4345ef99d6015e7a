"""Kernel distance between two sets of features: the unbiased squared maximum mean discrepancy (Gretton et al., 2012).

With the kernel (x.y / D + 1)^3 of Binkowski et al. (2018). It is flat in the number of clips, where a Frechet distance
is mostly bias, and around 0, at times below, for two sets of one law.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from mmdisco_cli.evaluation.bootstrap import finite

LEAST_SCALE = 0.25
"""Features that vary less than this share of the root mean square over all are not blown up to the size of the others:
one ball in a corner that is empty in the reference would else outweigh everything."""


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


def kernel_distance(x: Tensor, reference: Tensor) -> Distance:
    """Return the distance of features (N, D) from those of a reference set (M, D), which also sets their scale."""
    out = left_out(*standardised(x, reference))
    return Distance(float(out.value), (_spread(out.first) + _spread(out.second)) ** 0.5)


def distance_ratio(x: Tensor, y: Tensor, reference: Tensor) -> Distance:
    """Return the distance of x over that of y; if as many, clip i of x and of y share their noise and go together."""
    a, b = (left_out(*standardised(features, reference)) for features in (x, y))
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


def left_out(x: Tensor, y: Tensor) -> LeftOut:
    """Return the unbiased estimate between features (N, D) and (M, D), whole and without each clip in turn.

    All of it from the row sums of the kernel matrices: nothing is computed twice.
    """
    n, m = len(x), len(y)
    own_x, own_y, cross = _off_diagonal(x), _off_diagonal(y), _kernel(x, y)
    a, b, c = _pairs(own_x.sum(), n), _pairs(own_y.sum(), m), cross.mean()
    whole = a + b - 2 * c
    without_x = _pairs(own_x.sum() - 2 * own_x, n - 1) + b - 2 * (cross.sum() - cross.sum(1)) / max((n - 1) * m, 1)
    without_y = a + _pairs(own_y.sum() - 2 * own_y, m - 1) - 2 * (cross.sum() - cross.sum(0)) / max(n * (m - 1), 1)
    return LeftOut(whole, without_x, without_y)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _off_diagonal(x: Tensor) -> Tensor:
    """Return each clip's kernel summed over the other clips of its set, (N,)."""
    kernel = _kernel(x, x)
    return kernel.sum(1) - kernel.diagonal()


def _pairs(total: Tensor, n: int) -> Tensor:
    return total / (n * (n - 1)) if n > 1 else torch.full_like(total, torch.nan)


def _spread(values: Tensor) -> float:
    """Return the jackknife variance of a statistic from its values with one clip left out."""
    n = len(values)
    return float((values - values.mean()).square().sum() * (n - 1) / n)
