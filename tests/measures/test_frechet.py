"""The Frechet distance against closed forms, against the root of a matrix product, and where others fail."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from mmdisco_cli.measures.frechet import distance, fitted, frechet, from_moments, in_order
from mmdisco_cli.measures.kernel import kernel_distance, over_subsets
from mmdisco_cli.measures.scales import as_they_are


def normal(n, d, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exactly(mean, covariance, n=60):
    """Return n points with exactly this mean and this covariance of n - 1."""
    mean, covariance = (torch.tensor(x, dtype=torch.float64) for x in (mean, covariance))
    points = normal(n, len(mean))
    points = points - points.mean(0)
    points = points @ torch.linalg.inv(torch.linalg.cholesky(points.T @ points / (n - 1))).T
    values, vectors = torch.linalg.eigh(covariance)
    return points @ (vectors * values.clamp_min(0).sqrt() @ vectors.T) + mean


def by_root(a, b):
    root = scipy.linalg.sqrtm(a @ b)
    return float(np.trace(a) + np.trace(b) - 2 * np.trace(root).real)


EYE = [[1.0, 0.0], [0.0, 1.0]]
TILTED, OTHER = [[2.0, 1.0], [1.0, 2.0]], [[1.0, -0.5], [-0.5, 3.0]]


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (([0, 0], EYE), ([5, -2], EYE), 29.0),
        (([0, 0], EYE), ([0, 0], [[9.0, 0.0], [0.0, 4.0]]), (3 - 1) ** 2 + (2 - 1) ** 2),
        (([0, 0], [[4.0, 0.0], [0.0, 0.0]]), ([0, 0], [[0.0, 0.0], [0.0, 9.0]]), 4.0 + 9.0),
        (([0, 0], [[4.0, 0.0], [0.0, 0.0]]), ([0, 0], [[9.0, 0.0], [0.0, 0.0]]), (3 - 2) ** 2),
        (([1, 0], TILTED), ([0, 0], OTHER), 1 + by_root(np.array(TILTED), np.array(OTHER))),
    ],
)
def test_closed_forms(a, b, expected):
    assert distance(fitted(exactly(*a)), fitted(exactly(*b, n=45))) == pytest.approx(expected, abs=1e-9)
    moments = [from_moments(*(torch.tensor(x, dtype=torch.float64) for x in one)) for one in (a, b)]
    assert distance(*moments) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("n", "m", "d"), [(300, 200, 16), (20, 30, 64), (20, 90, 64), (90, 20, 64)])
def test_it_is_the_trace_of_the_root_for_many_and_for_few_clips(n, m, d):
    x, y = normal(n, d, 1) * 2 + 1, normal(m, d, 2)
    means = float((x.mean(0) - y.mean(0)).square().sum())
    expected = means + by_root(np.cov(x.numpy(), rowvar=False), np.cov(y.numpy(), rowvar=False))
    # Where a product of covariances is singular, the root by scipy is the less exact of the two.
    assert distance(fitted(x), fitted(y)) == pytest.approx(expected, rel=1e-9 if min(n, m) > d else 1e-4)


@pytest.mark.parametrize(("n", "d", "scale"), [(50, 400, 1.0), (300, 64, 1e4), (64, 64, 1e-3), (10, 1024, 1.0)])
def test_a_set_and_itself_are_at_0_in_any_order(n, d, scale):
    x = scale * (normal(n, d, 3) + 5)
    assert distance(fitted(x), fitted(x)) == 0
    assert frechet(x, x[torch.randperm(n)]).value < 1e-9 * scale
    assert in_order(x.flip(0)).equal(in_order(x))


def test_nothing_depends_on_the_order_of_clips():
    x, y = normal(80, 6, 4), normal(70, 6, 5) + 0.5
    a, b = frechet(x, y), frechet(x.flip(0), y[torch.randperm(70)])
    assert (a.value, a.spread, a.infinite) == pytest.approx((b.value, b.spread, b.infinite), rel=1e-9)


def test_nor_do_draws_where_clips_begin_alike():
    x, y = normal(60, 24, 4).relu(), normal(50, 24, 5).relu()
    x[:, :12] = y[:, :12] = 0
    turned = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    assert in_order(x[turned]).equal(in_order(x))
    assert frechet(x[turned], y.flip(0)) == frechet(x, y)


def test_the_limit_takes_out_most_of_the_bias():
    truth = 0.25 * 8
    found = [frechet(normal(200, 8, k), normal(200, 8, 100 + k) + 0.5, seed=k) for k in range(12)]
    bias = abs(sum(one.value for one in found) / 12 - truth)
    left = abs(sum(one.infinite for one in found) / 12 - truth)
    assert bias > 0.03
    assert left < bias


def test_the_spread_is_that_of_repetitions():
    found = [frechet(normal(200, 4, k), normal(200, 4, 500 + k) + 0.5) for k in range(60)]
    between = float(torch.tensor([one.value for one in found]).std())
    assert sum(one.spread for one in found) / 60 == pytest.approx(between, rel=0.35)


def test_too_few_clips_have_no_spread_and_one_has_no_distance():
    assert math.isnan(frechet(normal(4, 3), normal(5, 3)).spread)
    with pytest.raises(ValueError, match="at least two"):
        fitted(normal(1, 3))


def test_kernel_distance_over_subsets_is_about_that_of_the_whole():
    x, y = normal(400, 8, 6), normal(400, 8, 7) + 0.4
    whole = kernel_distance(x, y, as_they_are)
    parts = over_subsets(x, y, size=100)
    assert parts.value == pytest.approx(whole.value, abs=3 * whole.error)
    assert over_subsets(x, y, size=50).error > parts.error
