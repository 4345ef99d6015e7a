"""Frechet distance between Gaussians fitted to two sets of features (Dowson and Landau, 1982), in float64.

With A and B the centred features over sqrt(n - 1), the traces of the covariances and of the root of their product are
|A|^2, |B|^2 and the nuclear norm of A B^T, so that

    FD = |difference of means|^2 + |A|^2 + |B|^2 - 2 |A B^T|_* = |difference of means|^2 + min_W |A - W B|^2

over orthogonal W (Procrustes). The last form is computed: it takes no matrix root, never cancels, is exact for fewer
clips than dimensions, and is zero for a set and itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mmdisco_cli.measures.bootstrap import FIRST, REFERENCE, Estimate, Influenced

SIZES = 15
HALVES = 20
ROUNDING = 1e-3
"""Share of the largest by which entries of a covariance may differ across its diagonal, or an eigenvalue be below 0."""


@dataclass(frozen=True)
class Gaussian:
    """What the distance takes of a set: its mean (D,), a root (R, D) with root^T root its covariance, and its size."""

    mean: Tensor
    root: Tensor
    count: int | None = None


@dataclass(frozen=True)
class Frechet:
    """A distance, its spread over halves of both sets, and what it tends to with the number of clips; NaN: unknown.

    `interval` holds the distance of as many clips, biased as it is, with 95 % confidence.
    """

    value: float
    spread: float
    infinite: float
    interval: Estimate


def fitted(features: Tensor) -> Gaussian:
    """Return the Gaussian of features (N, D) with the covariance of N - 1; raise ValueError for fewer than two."""
    if len(features) < 2:
        raise ValueError("a covariance takes at least two clips")
    features = features.double()
    centre = features.mean(0)
    root = (features - centre) / (len(features) - 1) ** 0.5
    # R of QR has the same R^T R in fewer rows.
    return Gaussian(centre, torch.linalg.qr(root, mode="r")[1] if len(root) > root.shape[1] else root, len(features))


def from_moments(mean: Tensor, covariance: Tensor, count: int | None = None) -> Gaussian:
    """Return the Gaussian of a mean (D,) and a covariance (D, D) that was computed elsewhere.

    Raises:
        ValueError: no distribution has that covariance.
    """
    covariance = covariance.double() / 2
    if (covariance - covariance.T).abs().max() > ROUNDING * covariance.abs().max():
        raise ValueError("a covariance is symmetric")
    values, vectors = torch.linalg.eigh(covariance + covariance.T)
    if values[0] < -ROUNDING * values.abs().max():
        raise ValueError(f"a covariance has no eigenvalue below 0, as {float(values[0]):.3g} is")
    return Gaussian(mean.double(), values.clamp_min(0).sqrt()[:, None] * vectors.T, count)


def distance(a: Gaussian, b: Gaussian) -> float:
    """Return the squared Frechet (2-Wasserstein) distance."""
    rows = max(len(a.root), len(b.root))
    first, second = (torch.nn.functional.pad(one.root, (0, 0, 0, rows - len(one.root))) for one in (a, b))
    if torch.equal(first, second):
        return float((a.mean - b.mean).square().sum())
    left, _, right = torch.linalg.svd(first @ second.T)
    return float((a.mean - b.mean).square().sum() + (first - left @ right @ second).square().sum())


def frechet(x: Tensor, y: Tensor, seed: int = 0) -> Frechet:
    """Return the distance between features (N, D) and (M, D) with its spread and its limit, in any order of clips.

    The spread is the standard deviation over 20 halves drawn without replacement from both sets, which for smooth
    statistics is that of the whole; drawing with replacement would inflate the distance. The limit is the intercept of
    a line through the distances of 15 subsets of both sets over 1 / N (Chong and Forsyth, 2020, who keep one set whole;
    that leaves its bias in). It means something for at least three times as many clips as dimensions.
    """
    x, y = in_order(x), in_order(y)
    value = distance(fitted(x), fitted(y))
    draw = _draws(seed)

    def apart(share: float) -> float:
        return distance(fitted(draw(x, share)), fitted(draw(y, share)))

    if min(len(x), len(y)) < 8:
        return Frechet(value, float("nan"), float("nan"), influenced(x, y, value).estimate(seed))
    spread = float(torch.tensor([apart(0.5) for _ in range(HALVES)], dtype=torch.float64).std())
    shares = torch.linspace(0.25, 1, SIZES, dtype=torch.float64)
    points = torch.tensor([apart(float(share)) for share in shares[:-1]] + [value], dtype=torch.float64)
    interval = influenced(x, y, value, spread).estimate(seed)
    return Frechet(value, spread, _intercept(1 / shares, points), interval)


def influenced(x: Tensor, y: Tensor, value: float, error: float | None = None) -> Influenced:
    """Return the distance of features (N, D) and (M, D) in float64 with the influence of each clip of both.

    A clip counts through the mean and through what Procrustes leaves of it: |A - W B|^2 changes with the weight of row
    i of A by A_i (A - W B)_i, since W is optimal. These are scaled to a standard error where one is known: to first
    order two sets of one distribution have none.
    """
    gap = x.mean(0) - y.mean(0)
    (a, of_a, small_a), (b, of_b, small_b) = _rooted(x), _rooted(y)
    left, _, right = torch.linalg.svd(small_a @ small_b.T, full_matrices=False)
    parts = {
        FIRST: (a * (a - of_a @ left @ right @ small_b)).sum(1) + 2 * (x - x.mean(0)) @ gap / len(x),
        REFERENCE: (b * (b - of_b @ right.T @ left.T @ small_a)).sum(1) - 2 * (y - y.mean(0)) @ gap / len(y),
    }
    found = Influenced(torch.tensor(value), {stream: one - one.mean() for stream, one in parts.items()}, least=0.0)
    share = error / found.error if error is not None and value > 0 and found.error > 0 else 1.0
    return Influenced(found.value, {stream: one * share for stream, one in found.influence.items()}, least=0.0)


def _rooted(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the centred features A over sqrt(n - 1), and Q and R of A = Q R with no more rows in R than columns."""
    root = (x - x.mean(0)) / max(1, len(x) - 1) ** 0.5
    return root, *torch.linalg.qr(root)


def in_order(features: Tensor) -> Tensor:
    """Return the rows of (N, D) in float64, sorted, so that nothing drawn from them depends on the order of files."""
    rows = features.double()
    # The first columns distinguish most clips; where all eight tie, the bytes of the whole row decide.
    order = _by_bytes(rows)
    for column in reversed(range(min(8, rows.shape[1]))):
        order = order[rows[order, column].argsort(stable=True)]
    return rows[order]


def _by_bytes(rows: Tensor) -> Tensor:
    whole = np.ascontiguousarray(rows.numpy())
    if not whole.size:
        return torch.arange(len(rows))
    return torch.from_numpy(whole.view(f"V{whole.itemsize * whole.shape[1]}")[:, 0].argsort())


def _draws(seed: int) -> Callable[[Tensor, float], Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(rows: Tensor, share: float) -> Tensor:
        return rows[torch.randperm(len(rows), generator=generator)[: max(2, round(share * len(rows)))]]

    return draw


def _intercept(x: Tensor, y: Tensor) -> float:
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    return float(y.mean() - slope * x.mean())
