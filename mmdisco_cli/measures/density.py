"""Density and coverage of samples by nearest neighbours (Naeem et al., 2020, arXiv 2002.09797), and their diversity.

Around every real clip lies a ball that reaches to its 5th nearest real clip. Density counts in how many balls a sample
lies on average, over 5: some 1 for real clips, less for samples that look like none. Coverage is the share of balls in
which any sample lies: some 0.97 for as many real clips, less where samples leave out what real clips show. Diversity is
the mean distance between two samples over that between two real clips: 1 for real clips, 0 for one sample repeated.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mmdisco_cli.measures.bootstrap import FIRST, REFERENCE, Influenced, from_left_out, over

NEAREST = 5
LEAST = NEAREST + 2
"""Real clips that it takes: one may be left out, and the others still have as many neighbours."""
BLOCK = 128
TIE = 1e-9
"""Share of a radius within which a clip lies on the ball, and so outside: equal distances differ by rounding."""
SAME = 1e-12
"""Share of their squared lengths below which the squared distance of two clips is rounding, and they are equal."""
MEASURES = ("density", "coverage", "diversity")
DEFINITION = {
    "density": f"balls of real clips, out to the {NEAREST}th nearest, in which a sample lies, over {NEAREST}",
    "coverage": f"share of balls of real clips, out to the {NEAREST}th nearest, in which a sample lies",
    "diversity": "mean distance between two samples over that between two real clips",
}


@dataclass(frozen=True)
class Balls:
    """Real clips (M, D), the squared distances (M,) to the k-th nearest and to the next, and the k nearest (M, k)."""

    centres: Tensor
    radius: Tensor
    next_radius: Tensor
    nearest: Tensor


@dataclass(frozen=True)
class Inside:
    """Samples in each ball (M,), in the ball that reaches one clip further (M,), and balls by sample, (N,) each.

    `alone` counts those balls in which no other sample lies.
    """

    counts: Tensor
    next_counts: Tensor
    balls: Tensor
    alone: Tensor


def balls_of(reference: Tensor, k: int = NEAREST) -> Balls:
    """Return the balls of real clips (M, D), of which there are at least k + 2."""
    found = []
    for start, squares in _squares(reference, reference):
        rows = torch.arange(len(squares))
        squares[rows, start + rows] = torch.inf
        found.append(squares.topk(k + 1, largest=False))
    distances, places = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Balls(reference, distances[:, k - 1], distances[:, k], places[:, :k])


def inside(balls: Balls, x: Tensor) -> Inside:
    """Return how samples (N, D) lie in balls; memory does not grow with the product of both."""
    counts, next_counts = [], []
    of_sample, alone = (torch.zeros(len(x), dtype=torch.float64) for _ in range(2))
    for start, squares in _squares(balls.centres, x):
        rows = slice(start, start + len(squares))
        lies = _within(squares, balls.radius[rows]).double()
        counts.append(lies.sum(1))
        next_counts.append(_within(squares, balls.next_radius[rows]).sum(1).double())
        of_sample += lies.sum(0)
        alone += lies[counts[-1] == 1].sum(0)
    return Inside(torch.cat(counts), torch.cat(next_counts), of_sample, alone)


def density_of(balls: Balls, found: Inside, stream: int = FIRST) -> Influenced:
    """Return the density of samples that are drawn from a stream."""
    n, k = len(found.balls), balls.nearest.shape[1]
    without = (found.counts.sum() - found.counts + _regained(balls, found.next_counts - found.counts)) / (k * n)
    by_sample = found.balls / k
    influence = {stream: (by_sample - by_sample.mean()) / n, REFERENCE: from_left_out(without)}
    return Influenced(by_sample.mean(), influence, least=0.0)


def coverage_of(balls: Balls, found: Inside, stream: int = FIRST) -> Influenced:
    """Return the coverage by samples that are drawn from a stream."""
    covered, next_covered = ((counts > 0).double() for counts in (found.counts, found.next_counts))
    value, m = covered.mean(), len(covered)
    without = (covered.sum() - covered + _regained(balls, next_covered - covered)) / (m - 1)
    influence = {stream: from_left_out(value - found.alone / m), REFERENCE: from_left_out(without)}
    return Influenced(value, influence, least=0.0, most=1.0)


def mean_distance(x: Tensor, stream: int = FIRST) -> Influenced:
    """Return the mean distance between two clips of a set (N, D), of at least three."""
    n = len(x)
    rows = torch.cat([squares.sqrt().sum(1) for _, squares in _squares(x, x)])
    without = (rows.sum() - 2 * rows) / ((n - 1) * (n - 2))
    return Influenced(rows.sum() / (n * (n - 1)), {stream: from_left_out(without)}, least=0.0)


def diversity_of(x: Tensor, real: Influenced, stream: int = FIRST) -> Influenced | None:
    """Return the diversity of samples (N, D) beside the mean distance of real clips; None where these are all equal."""
    return over(mean_distance(x, stream), real) if float(real.value) > 0 else None


def measured(x: Tensor, balls: Balls, real: Influenced, stream: int = FIRST) -> Mapping[str, Influenced]:
    """Return those of `MEASURES` that samples (N, D) have."""
    found = inside(balls, x)
    known = {"density": density_of(balls, found, stream), "coverage": coverage_of(balls, found, stream)}
    diversity = diversity_of(x, real, stream) if len(x) > 2 else None
    return known if diversity is None else {**known, "diversity": diversity}


def _regained(balls: Balls, gained: Tensor) -> Tensor:
    """Return for each real clip what all balls gain (M,) together that reach further where it is missing."""
    spread = gained[:, None].expand(balls.nearest.shape).flatten()
    return torch.zeros(len(gained), dtype=torch.float64).index_add_(0, balls.nearest.flatten(), spread)


def _within(squares: Tensor, radius: Tensor) -> Tensor:
    return squares < radius[:, None] * (1 - TIE) ** 2


def _squares(a: Tensor, b: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield squared distances (up to 128, N) of rows of (M, D) from all of (N, D), with the number of the first row."""
    lengths = b.square().sum(1)
    for start in range(0, len(a), BLOCK):
        part = a[start : start + BLOCK]
        sums = part.square().sum(1, keepdim=True) + lengths
        squares = sums - 2 * part @ b.T
        yield start, torch.where(squares > SAME * sums, squares, 0.0)
