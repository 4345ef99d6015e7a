"""Intervals that hold the truth as often as they say, and the figures that they are drawn around."""

import math

import pytest
import torch

from mmdisco_cli.measures.bootstrap import Measure, blocks, correlation, estimate, gap_closed, interval, mean_of


def test_interval_of_a_mean_holds_the_truth_about_19_times_in_20():
    generator = torch.Generator().manual_seed(0)
    held = 0
    for k in range(120):
        drawn = torch.rand(40, generator=generator, dtype=torch.float64)
        found = estimate(mean_of(drawn.tolist()), seed=k)
        held += found.low <= 0.5 <= found.high
    assert 0.88 <= held / 120 <= 0.99


def test_mean_leaves_out_clips_without_a_value():
    found = estimate(mean_of([0.0, None, 1.0, None]), seed=0)
    assert found.value == 0.5
    assert estimate(mean_of([None, None]), 0).as_json() == {"value": None, "low": None, "high": None}


def test_counts_draw_every_clip_once_on_average_and_are_the_same_each_time():
    drawn = torch.cat(list(blocks(7, seed=3)))
    assert torch.equal(drawn.sum(1), torch.full((len(drawn),), 7.0, dtype=torch.float64))
    assert torch.allclose(drawn.mean(0), torch.ones(7, dtype=torch.float64), atol=0.1)
    assert torch.equal(drawn, torch.cat(list(blocks(7, seed=3))))
    assert not torch.equal(drawn, torch.cat(list(blocks(7, seed=3, stream=1))))


def test_correlation_of_sums_is_that_of_the_pairs():
    x, y = torch.randn(2, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    y = y + 0.7 * x + 9
    sums = torch.stack([torch.ones_like(x), x, y, x * x, y * y, x * y], 1)
    assert float(correlation(sums.sum(0))) == pytest.approx(float(torch.corrcoef(torch.stack([x, y]))[0, 1]), abs=1e-9)
    assert math.isnan(float(correlation(sums[:2].sum(0))))
    assert math.isnan(float(correlation((torch.ones(5, 6, dtype=torch.float64)).sum(0))))


def test_gap_closed_is_0_at_independent_and_1_at_real():
    low, high = mean_of([0.1, 0.2, 0.3] * 10), mean_of([0.8, 0.9, 1.0] * 10)
    middle = mean_of([0.45, 0.55, 0.65] * 10)
    none, half, whole = (gap_closed(high, low, reached, seed=0) for reached in (low, middle, high))
    assert (none.value, none.low, none.high) == (0, 0, 0)
    assert half.value == pytest.approx(0.5)
    assert half.low < 0.5 < half.high
    assert whole.value == pytest.approx(1)
    assert math.isnan(gap_closed(low, high, middle, seed=0).value)


def test_an_interval_over_many_undefined_values_is_none():
    values = torch.tensor([1.0, 2.0, math.nan, 3.0])
    assert math.isnan(interval(torch.tensor(2.0), values).low)


def test_a_measure_counts_a_clip_as_often_as_it_was_drawn():
    measure = mean_of([1.0, 5.0])
    assert measure.resampled(torch.tensor([[2.0, 0.0], [1.0, 1.0]], dtype=torch.float64)).tolist() == [1.0, 3.0]
    assert isinstance(measure, Measure)
