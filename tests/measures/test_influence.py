"""Intervals over influences against those over clips, and against what fresh sets of clips give."""

import pytest
import torch

from mmdisco_cli.measures.bootstrap import FIRST, Influenced, difference, estimate, from_left_out, mean_of, over
from mmdisco_cli.measures.frechet import distance, fitted, frechet, influenced
from mmdisco_cli.measures.kernel import distance_difference, distance_ratio, kernel_distance


def normal(n, d, seed, shift=0.0, scale=1.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * scale + shift


def test_of_a_mean_both_ways_are_one():
    values = normal(40, 1, 0)[:, 0]
    without = (values.sum() - values) / 39
    found = Influenced(values.mean(), {FIRST: from_left_out(without)}).estimate(7)
    expected = estimate(mean_of(values.tolist()), 7)
    # But for the factor by which the jackknife's variance exceeds that of the bootstrap, n / (n - 1).
    for end in ("low", "high"):
        reach = (getattr(expected, end) - expected.value) * (40 / 39) ** 0.5
        assert getattr(found, end) - found.value == pytest.approx(reach, abs=1e-9)


def test_differences_and_ratios_are_of_the_first_order():
    x, y = normal(30, 1, 1, 5.0)[:, 0], normal(30, 1, 2, 4.0)[:, 0]
    a, b = (Influenced(one.mean(), {FIRST: from_left_out((one.sum() - one) / 29)}) for one in (x, y))
    less, ratio = difference(a, b), over(a, b)
    assert float(less.value) == pytest.approx(float((x - y).mean()))
    assert less.error == pytest.approx(float((x - y).std()) / 30**0.5)
    left = torch.tensor([float(x.sum() - p) / float(y.sum() - q) for p, q in zip(x, y, strict=True)])
    assert ratio.error == pytest.approx(float((left - left.mean()).square().sum() * 29 / 30) ** 0.5, rel=0.01)


def test_one_clip_has_no_interval():
    found = kernel_distance(normal(1, 3, 0), normal(5, 3, 1)).as_json(0)
    assert found == {"value": None, "low": None, "high": None, "error": None}
    alone = Influenced(torch.tensor(1.0), {FIRST: torch.zeros(1)}).estimate(0)
    assert alone.as_json() == {"value": 1.0, "low": None, "high": None}


def test_the_interval_of_a_kernel_distance_is_two_errors_wide_either_way():
    found = kernel_distance(normal(100, 4, 0, 0.4), normal(100, 4, 1)).as_json(0)
    assert found["high"] - found["value"] == pytest.approx(1.96 * found["error"], rel=0.15)
    assert found["value"] - found["low"] == pytest.approx(1.96 * found["error"], rel=0.15)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_intervals_of_kernel_distances_hold_what_they_estimate(shift):
    found = [kernel_distance(normal(60, 40, k, shift), normal(60, 40, 5000 + k)).estimate(0) for k in range(120)]
    expected = sum(one.value for one in found) / len(found)
    held = sum(one.low <= expected <= one.high for one in found) / len(found)
    assert 0.88 <= held <= 1.0


def test_a_difference_of_kernel_distances_is_the_one_less_the_other():
    x, y, real = normal(30, 4, 0, 0.5), normal(30, 4, 1, 0.2), normal(40, 4, 2)
    found = distance_difference(x, y, real)
    expected = kernel_distance(x, real).value - kernel_distance(y, real).value
    assert found.value == pytest.approx(expected, abs=1e-12)
    assert distance_difference(x, x, real).as_json(0) == {"value": 0.0, "low": 0.0, "high": 0.0, "error": 0.0}
    # Of samples that share their noise what is common to both cancels.
    near = distance_difference(x + 0.01, x, real)
    assert near.error < distance_difference(x + 0.01, normal(30, 4, 3, 0.5), real).error / 5
    assert distance_difference(x, y[:20], real).value == pytest.approx(
        kernel_distance(x, real).value - kernel_distance(y[:20], real).value, abs=1e-12
    )


@pytest.mark.parametrize("paired", [True, False])
def test_errors_of_differences_are_those_of_fresh_draws(paired):
    found = []
    for k in range(150):
        x = normal(40, 3, k, 0.4)
        y = x * 0.9 + 0.1 if paired else normal(41, 3, 9000 + k, 0.4)
        found.append(distance_difference(x, y, normal(40, 3, 500 + k)))
    spread = float(torch.tensor([one.value for one in found]).std())
    assert (sum(one.error**2 for one in found) / 150) ** 0.5 == pytest.approx(spread, rel=0.25)


def test_influences_of_a_frechet_distance_are_what_it_becomes_without_a_clip():
    for n, m, d in ((60, 50, 4), (30, 12, 20)):
        x, y = normal(n, d, 0, 0.5, 1.4), normal(m, d, 1)
        found = influenced(x, y, distance(fitted(x), fitted(y)))
        for stream, one, other in ((0, x, y), (3, y, x)):
            rows = [torch.arange(len(one)) != k for k in range(len(one))]
            without = torch.tensor([distance(fitted(one[row]), fitted(other)) for row in rows], dtype=torch.float64)
            pair = torch.stack([found.influence[stream], -without])
            assert float(torch.corrcoef(pair)[0, 1]) > 0.9, (n, d, stream)
        # Alone they would be as wide as the jackknife's, where there are enough clips for it to be of the first order.
        if n > d * 4:
            jackknife = float((without - without.mean()).square().sum()) * (m - 1) / m
            assert float(found.influence[3].square().sum()) == pytest.approx(jackknife, rel=0.2)


def test_a_frechet_distance_has_an_interval_as_wide_as_its_spread():
    found = frechet(normal(120, 5, 0, 0.5), normal(120, 5, 1))
    assert found.interval.low < found.value < found.interval.high
    assert found.interval.high - found.interval.low == pytest.approx(3.92 * found.spread, rel=0.15)
    same = normal(20, 3, 2)
    assert list(frechet(same, same).interval.as_json().values()) == pytest.approx([0, 0, 0], abs=1e-9)


def test_the_ratio_draws_what_shares_its_noise_together():
    x, real = normal(50, 4, 0, 0.6), normal(50, 4, 1)
    together, apart = distance_ratio(x + 0.01, x, real), distance_ratio(x + 0.01, normal(49, 4, 2, 0.6), real)
    assert together.estimate(0).high - together.estimate(0).low < (apart.estimate(0).high - apart.estimate(0).low) / 3
