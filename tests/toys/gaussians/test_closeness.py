"""How close points come to the truth, with intervals: against closed forms and against points left out."""

import pytest
import torch

from mmdisco_cli.evaluation.verdict.conclusion import conclude
from mmdisco_cli.evaluation.verdict.failures import failures
from mmdisco_cli.recipes.recipe import load
from mmdisco_cli.toys.gaussians.closeness import METRICS, sample_metrics, sliced, sliced_wasserstein
from mmdisco_cli.toys.gaussians.protocol import points_of


def normal(n, d, seed, shift=0.0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def test_influences_of_the_sliced_distance_are_its_potential():
    # Between points x and y on a line the derivative in the weight of x_i is twice the summed gap up to it; where y is
    # x shifted by s, that is 2 s x_i up to a constant.
    x = normal(200, 1, 0)
    found = sliced(x, x - 0.5)
    assert float(found.value) == pytest.approx(0.5)
    expected = (x[:, 0] - x[:, 0].mean()) / 200  # 2 s x / (2 s n)
    assert torch.allclose(found.influence[0], expected, atol=1e-9)
    # So its standard error is that of a mean.
    together = (2 * x.var() / 200) ** 0.5
    assert found.error == pytest.approx(float(together), rel=0.01)
    same = sliced(x, x)
    assert float(same.value) == 0
    assert same.estimate(0).as_json() == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_errors_of_the_sliced_distance_are_those_of_fresh_points():
    found = [sliced(normal(200, 2, k, 0.8), normal(200, 2, 1000 + k)) for k in range(60)]
    spread = float(torch.tensor([float(one.value) for one in found]).std())
    assert sum(one.error for one in found) / 60 == pytest.approx(spread, rel=0.3)
    assert float(found[0].value) == pytest.approx(sliced_wasserstein(normal(200, 2, 0, 0.8), normal(200, 2, 1000)))


def rows_of(points, dropped=()):
    """Return independent points, and guided ones on the modes but those dropped."""
    mixture, generator = points.mixture, torch.Generator().manual_seed(0)
    exact = mixture.draw(4000, generator)
    kept = exact[~torch.isin(mixture.modes_of(exact), torch.tensor(dropped, dtype=torch.int64))][:1500]
    apart = torch.stack([column[torch.randperm(1500, generator=generator)] for column in exact[-1500:].unbind(1)], 1)
    return {"independent": apart, "guided": kept}


def test_a_mode_that_is_dropped_is_named_and_whole_ones_are_silent():
    points = points_of(load("gaussians"))
    healthy = sample_metrics(rows_of(points), points, 0)
    assert healthy.keys() == set(METRICS)
    assert failures(healthy) == []
    found = conclude(healthy)
    assert (found.metric, found.good) == ("mass_on_modes", True)
    assert found.says.startswith("Guidance helped: modalities belong together more often, and cost nothing in quality")
    warned = failures(sample_metrics(rows_of(points, dropped=(1,)), points, 0))
    assert any(line.startswith("mode dropping: mode 1 is 0.000 of the guided samples") for line in warned)


def test_points_in_one_place_are_a_collapse():
    points = points_of(load("gaussians"))
    rows = rows_of(points)
    rows["guided"] = rows["guided"][:1] + 0.01 * torch.randn(1500, 2, generator=torch.Generator().manual_seed(1))
    assert [line for line in failures(sample_metrics(rows, points, 0)) if line.startswith("collapse: guided samples")]


def test_only_what_is_chosen_is_measured():
    points = points_of(load("gaussians"))
    rows = {name: x[:100] for name, x in rows_of(points).items()}
    assert sample_metrics(rows, points, 0, ("mass_on_modes",)).keys() == {"mass_on_modes"}
