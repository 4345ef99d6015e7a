"""The kernel distance against its definition by loops, and against expectations in closed form."""

import math
from itertools import permutations

import pytest
import torch

from mmdisco_cli.measures.distances import distances
from mmdisco_cli.measures.kernel import distance_ratio, kernel_distance, left_out
from mmdisco_cli.measures.scales import as_they_are, over_rms, standardised


def normal(n, d, seed, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def by_loops(x, y):
    def k(a, b):
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    def mean(pairs):
        values = [k(a, b) for a, b in pairs]
        return sum(values) / len(values)

    x, y = x.tolist(), y.tolist()
    return mean(permutations(x, 2)) + mean(permutations(y, 2)) - 2 * mean((a, b) for a in x for b in y)


def test_distance_is_its_definition():
    x, y = normal(7, 5, 0), normal(9, 5, 1, 0.3)
    assert float(left_out(x, y).value) == pytest.approx(by_loops(x, y), abs=1e-12)


def test_what_is_left_out_is_the_distance_without_that_clip():
    x, y = normal(6, 4, 2), normal(5, 4, 3, 0.5)
    found = left_out(x, y)
    for i in range(6):
        assert float(found.first[i]) == pytest.approx(by_loops(x[torch.arange(6) != i], y), abs=1e-12)
    for j in range(5):
        assert float(found.second[j]) == pytest.approx(by_loops(x, y[torch.arange(5) != j]), abs=1e-12)


def test_expectation_for_shifted_gaussians_in_one_dimension():
    # E(x x' + 1)^3 = 1 + 3 E x E x' + 3 E x^2 E x'^2 + E x^3 E x'^3; with a shift s the squared MMD is
    # 3 s^2 + 3 s^4 + (s^3 + 3 s)^2.
    s = 0.5
    expected = 3 * s**2 + 3 * s**4 + (s**3 + 3 * s) ** 2
    found = [float(left_out(normal(200, 1, k, s), normal(200, 1, 1000 + k)).value) for k in range(100)]
    mean, error = torch.tensor(found).mean(), torch.tensor(found).std() / math.sqrt(len(found))
    assert abs(float(mean) - expected) < 4 * float(error)


def test_unbiased_for_small_sets_of_one_distribution():
    found = torch.tensor([float(left_out(normal(5, 8, k), normal(6, 8, 5000 + k)).value) for k in range(600)])
    assert abs(float(found.mean())) < 4 * float(found.std()) / math.sqrt(len(found))


def test_order_of_clips_does_not_matter():
    x, y = normal(40, 6, 4), normal(30, 6, 5, 0.2)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(6))
    a, b = kernel_distance(x, y), kernel_distance(x[order], y.flip(0))
    assert (a.value, a.error) == pytest.approx((b.value, b.error), rel=1e-10)


def test_units_do_not_matter_and_constant_features_are_harmless():
    x, y = normal(40, 3, 7), normal(50, 3, 8)
    a, b = kernel_distance(x, y), kernel_distance(x * 1e-3 + 5, y * 1e-3 + 5)
    assert a.value == pytest.approx(b.value, rel=1e-6)
    flat = torch.cat([y, torch.full((50, 1), 3.0)], 1)
    for scale in (standardised, over_rms):
        found = kernel_distance(torch.cat([x, torch.full((40, 1), 3.0)], 1), flat, scale)
        assert math.isfinite(found.value)
        assert 0 < found.error < 10
    assert kernel_distance(torch.ones(5, 2), torch.zeros(6, 2), over_rms).error == 0
    assert float(standardised(flat, flat)[0][:, 3].abs().max()) == 0
    assert left_out(*standardised(torch.ones(4, 2), torch.ones(3, 2))).value == 0


def test_a_feature_that_hardly_varies_is_not_blown_up():
    y = normal(50, 4, 14)
    y[:, 3] *= 1e-6
    assert float(standardised(y, y)[0][:, 3].abs().max()) < 1e-4
    assert float(standardised(y, y)[0][:, 0].std()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("scale", [as_they_are, over_rms, standardised])
@pytest.mark.parametrize(("n", "m", "dims", "shift"), [(48, 48, 64, 0.0), (24, 80, 64, 0.0), (120, 30, 32, 0.3)])
def test_the_error_is_the_spread_over_repetitions(n, m, dims, shift, scale):
    # Of one distribution, where pairs of clips are all of the variance, and of two with few clips to set the scale.
    pairs = [(normal(n, dims, k, shift), normal(m, dims, 9000 + k)) for k in range(200)]
    found = [kernel_distance(x, y, scale) for x, y in pairs]
    spread = float(torch.tensor([one.value for one in found]).std())
    error = float(torch.tensor([one.error for one in found]).mean())
    assert error == pytest.approx(spread, rel=0.15)


def test_the_error_of_a_ratio_is_its_spread_over_repetitions():
    for count in (40, 60):  # as many clips, which share their noise, and not as many
        found = []
        for k in range(150):
            x, y = normal(40, 32, k, 0.5), normal(40, 32, 9000 + k)
            other = x + 0.2 if count == 40 else normal(count, 32, 20000 + k, 0.7)
            found.append(distance_ratio(x, other, y))
        spread = float(torch.tensor([one.value for one in found]).std())
        assert float(torch.tensor([one.error for one in found]).mean()) == pytest.approx(spread, rel=0.15)


def test_the_variance_of_pairs_is_that_of_a_kernel_without_single_effects():
    # E of a product kernel of centred features vanishes by row: all variance is of pairs, var k / N^2 and the like.
    found = [left_out(normal(12, 400, k), normal(9, 400, 700 + k)).pairs for k in range(150)]
    # (x.y / D + 1)^3 is 1 + 3 x.y / D up to terms of D^-1: its variance besides row means is 9 / D.
    own, cross, reference = (
        sum(float(getattr(one, name)) for one in found) / 150 for name in ("own", "cross", "reference")
    )
    assert own == pytest.approx(2 * 9 / 400 / (12 * 11), rel=0.1)
    assert cross == pytest.approx(4 * 9 / 400 / (12 * 9), rel=0.1)
    assert reference == pytest.approx(2 * 9 / 400 / (9 * 8), rel=0.1)


def test_too_few_clips_have_no_distance():
    assert math.isnan(kernel_distance(normal(1, 3, 0), normal(4, 3, 1)).value)
    two = kernel_distance(normal(2, 3, 0), normal(4, 3, 1))
    assert math.isfinite(two.value)
    assert math.isnan(two.error)


def test_ratio_of_a_set_with_itself_is_exactly_one():
    x, y = normal(40, 6, 9, 1.0), normal(40, 6, 10)
    found = distance_ratio(x, x, y)
    assert (found.value, found.error) == (1.0, 0.0)
    assert distance_ratio(x, normal(30, 6, 11, 1.0), y).error > 0.02


def test_no_ratio_to_samples_that_are_as_near_as_real_ones():
    def rows(shift):
        return {"kd_logmel": normal(60, 4, 12, shift)}

    reference = {"kd_logmel": normal(60, 4, 13)}
    near = distances({"real": rows(0), "independent": rows(0), "guided": rows(0.2)}, reference, ("kd_logmel",))
    far = distances({"real": rows(0), "independent": rows(1), "guided": rows(1)}, reference, ("kd_logmel",))
    assert near["kd_logmel"]["ratio"] is None
    assert far["kd_logmel"]["ratio"]["value"] == 1.0
