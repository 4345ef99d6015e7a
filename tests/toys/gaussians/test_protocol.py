"""The protocol against a discriminator that is the truth itself, and one that says nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from mmdisco_cli.assembly import LoadedDiscriminator, assemble
from mmdisco_cli.discriminators.mlp import build
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.evaluation.run import evaluate
from mmdisco_cli.recipes.recipe import load
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.run.options import EvalOptions, SampleOptions
from mmdisco_cli.sampling.run import sample
from mmdisco_cli.toys.gaussians import ablation as gaussians_ablation
from mmdisco_cli.toys.gaussians import closeness
from mmdisco_cli.toys.gaussians import protocol as gaussians
from mmdisco_cli.toys.gaussians.score import score_errors
from mmdisco_cli.weights_file import save_weights

TINY = ("eval.n=64", "sample.steps=8", "sample.batch_size=32", "discriminator.width=8", "discriminator.depth=2")


class Exact(nn.Module):
    """The optimal logit, log p_u - log q_u, for variance-preserving schedules."""

    def __init__(self, mixture):
        super().__init__()
        self.mixture = mixture

    def forward(self, x, log_snr, pooled=None):
        states, levels = torch.cat(list(x.values()), 1), torch.stack(list(log_snr.values()), 1)
        alpha, sigma = (2 * levels).sigmoid().sqrt(), (-2 * levels).sigmoid().sqrt()
        means = self.mixture.means
        gaps = states[:, None] - alpha[:, None] * means
        exponent = -gaps.square() / (2 * ((alpha * self.mixture.std).square() + sigma.square())[:, None])
        # Every modality takes each of its values equally often, so its marginal is the mean over all modes as well.
        return exponent.sum(2).logsumexp(1) - exponent.logsumexp(1).sum(1)


class Silent(nn.Module):
    def forward(self, x, log_snr, pooled=None):
        return 0 * sum(x.values()).sum(1)


def recipe_of(name="gaussians", *overrides):
    return load(name, [*TINY, *overrides])


def with_discriminator(recipe, module):
    alone = assemble(recipe, torch.device("cpu"), with_discriminator=False)
    return replace(alone, discriminator=LoadedDiscriminator(module, {}, Path(), ""))


@pytest.fixture
def weights(tmp_path):
    """Return the file of a discriminator that was never trained, for recipes made with TINY."""
    recipe = recipe_of()
    alone = assemble(recipe, torch.device("cpu"), with_discriminator=False)
    module = build(recipe.discriminator.options, alone.shapes, alone.pooled)
    about = {
        "kind": "discriminator",
        "name": "mlp",
        "options": recipe.to_dict()["discriminator"] | {},
        "coupling": recipe.coupling,
        "shapes": alone.shapes,
        "backbones": alone.fingerprints,
    }
    about["options"].pop("name")
    save_weights(tmp_path / "d.safetensors", module.state_dict(), about)
    return tmp_path / "d.safetensors"


@pytest.mark.parametrize("name", ["gaussians", "gaussians3"])
def test_the_optimal_discriminator_has_no_error(name):
    recipe = recipe_of(name, "sample.steps=20")
    points = gaussians.points_of(recipe)
    assembly = with_discriminator(recipe, Exact(points.mixture))
    metrics = score_errors(assembly, points.mixture, recipe.sample, 0).metrics(0)
    assert metrics["residual_error"]["high"] < 1e-3
    assert metrics["joint_error"]["guided"]["value"] < 1e-3
    rows = gaussians.sample_rows(assembly, points.mixture, recipe.sample, replace(recipe.eval, n=512))
    torch.testing.assert_close(rows["guided"], rows["exact"], atol=2e-3, rtol=0)
    mass = closeness.sample_metrics(rows, points, 0)["mass_on_modes"]
    assert mass["exact"] == mass["guided"]
    assert mass["guided"]["value"] > 0.98
    assert mass["real"]["value"] > 0.98
    assert 0.15 < mass["independent"]["value"] < 0.35


def test_a_silent_discriminator_misses_all_of_the_residual():
    recipe = recipe_of()
    metrics = score_errors(
        with_discriminator(recipe, Silent()), gaussians.points_of(recipe).mixture, recipe.sample, 0
    ).metrics(0)
    assert metrics["residual_error"] == pytest.approx({"value": 1, "low": 1, "high": 1})
    assert metrics["joint_error"]["guided"] == pytest.approx(metrics["joint_error"]["independent"])
    assert metrics["joint_error"]["guided"]["low"] < metrics["joint_error"]["guided"]["value"]
    assert sum(metrics["by_level"]["residual_share"]) == pytest.approx(1)


def test_sliced_wasserstein_of_a_shift():
    points = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
    shuffled = points[torch.randperm(500, generator=torch.Generator().manual_seed(1))]
    assert closeness.sliced_wasserstein(points, shuffled) == pytest.approx(0, abs=1e-9)
    # Along a direction w the shift is <w, d>, whose square is on average |d|^2 / 3.
    shift = torch.tensor([3.0, 0, 4])
    found = closeness.sliced_wasserstein(points, shuffled + shift, directions=20_000)
    assert found == pytest.approx(5 / 3**0.5, rel=0.02)
    assert closeness.sliced_wasserstein(points[:, :1], shuffled[:, :1] + 2) == pytest.approx(2, rel=1e-5)


def test_one_json_object_files_and_a_table(weights, tmp_path, capsys):
    recipe = recipe_of("gaussians", f"sample.weights={weights}")
    evaluate(recipe, EvalOptions(out=tmp_path / "eval", json=True, metrics=("mass_on_modes", "residual_error")))
    printed = capsys.readouterr()
    content = json.loads(printed.out)
    assert content.keys() == {"recipe", "n", "metrics", "protocol", "warnings"}
    assert (content["recipe"], content["n"], content["protocol"]["name"]) == ("gaussians", 64, "gaussians")
    assert content["metrics"].keys() == {"mass_on_modes", "residual_error"}
    assert content["metrics"]["residual_error"]["value"] == pytest.approx(1)  # an untrained one is silent
    assert json.loads((tmp_path / "eval" / "metrics.json").read_text()) == content
    assert (tmp_path / "eval" / "scatter.png").read_bytes().startswith(b"\x89PNG")
    assert "share of residual" in printed.err
    evaluate(recipe, EvalOptions(out=tmp_path / "eval"))
    paths = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert paths == ["metrics.json", "scatter.png", "report.html"]


def test_written_samples_are_a_row_of_their_own(weights, tmp_path):
    recipe = recipe_of("gaussians", f"sample.weights={weights}")
    sample(recipe, SampleOptions(n=5, out=tmp_path / "samples", device="cpu"))
    points = gaussians.read_samples(tmp_path / "samples", ("x", "y"))
    drawn = gaussians.drawn(assemble(recipe, torch.device("cpu")), recipe.sample, replace(recipe.eval, n=5))
    torch.testing.assert_close(points, drawn, atol=1e-4, rtol=0)
    report = gaussians.evaluate(recipe, EvalOptions(samples=tmp_path / "samples", out=tmp_path), Ranks())
    assert list(report.metrics["mass_on_modes"]) == ["independent", "guided", "exact", "samples", "real", "difference"]
    with pytest.raises(DataError, match="holds no samples of x, y"):
        gaussians.read_samples(tmp_path / "none", ("x", "y"))


def test_ablation_trains_and_resumes(tmp_path, capsys):
    recipe = recipe_of("gaussians-ablation", "train.steps=2", "train.batch_size=16", "eval.n=32")
    evaluate(recipe, EvalOptions(out=tmp_path, json=True))
    found = json.loads(capsys.readouterr().out)["metrics"]["variants"]
    assert list(found) == [variant.name for variant in gaussians_ablation.VARIANTS]
    assert json.loads((tmp_path / "ablation.json").read_text()) == found
    evaluate(recipe, EvalOptions(out=tmp_path, json=True))
    assert json.loads(capsys.readouterr().out)["metrics"]["variants"] == found


def test_what_does_not_fit_is_named(weights, tmp_path):
    recipe = recipe_of("gaussians", f"sample.weights={weights}")
    with pytest.raises(UsageError, match=r"--metrics mass_on_mode: unknown \(did you mean mass_on_modes\? known: "):
        evaluate(recipe, EvalOptions(out=tmp_path, metrics=("mass_on_mode",)))
    with pytest.raises(UsageError, match="--reference"):
        evaluate(recipe, EvalOptions(out=tmp_path, reference=tmp_path))
    with pytest.raises(UsageError, match="needs the data set gaussians"):
        gaussians.points_of(replace(recipe, data=None))
    swapped = replace(recipe, backbones=dict(reversed(recipe.backbones.items())))
    with pytest.raises(UsageError, match="the data have x, y, in this order, not y, x"):
        gaussians.points_of(swapped)
    assembly, mixture = with_discriminator(recipe, Silent()), gaussians.points_of(recipe).mixture
    with pytest.raises(UsageError, match="none of the 8 steps lies inside"):
        score_errors(assembly, mixture, replace(recipe.sample, window=(10.0, 11.0)), 0)
    with pytest.raises(UsageError, match="varies the options of mlp"):
        gaussians_ablation.VARIANTS[0].of(replace(recipe, discriminator=None))
