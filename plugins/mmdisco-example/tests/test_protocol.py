"""The protocol keeps the contract, and what it reports shows that the trained discriminator joins the two models."""

import json

import pytest
import torch

from mmdisco_cli.errors import UsageError
from mmdisco_cli.evaluation.protocol import EvalOptions, Ranks
from mmdisco_cli.recipes.recipe import load
from mmdisco_cli.testing import check_protocol
from mmdisco_example.protocol import build, correlations


@pytest.fixture
def recipe(trained, clone, monkeypatch):
    monkeypatch.chdir(clone)
    monkeypatch.setenv("MMDISCO_PLUGINS", "mmdisco-example")
    return load(str(trained), ["eval.n=8"])


def test_the_protocol_keeps_the_contract(recipe, tmp_path):
    assert check_protocol(build, recipe, tmp_path).n == 8


def test_guided_samples_meet_and_independent_ones_do_not(mmdisco, trained):
    done = mmdisco("eval", "--recipe", str(trained), "--json")
    metrics = json.loads(done.stdout)["metrics"]
    for name in ("pitch", "loudness"):
        assert metrics[name]["real"] > 0.9
        assert metrics[name]["guided"] > 0.8
        assert abs(metrics[name]["independent"]) < 0.2


def test_data_without_captions_are_refused(recipe, tmp_path):
    bounce = load("bounce", ["eval.n=2"])
    with pytest.raises(UsageError, match="duet needs audio and video, and captions"):
        build().evaluate(bounce, EvalOptions(out=tmp_path), Ranks())


def test_correlation_is_apart_from_what_the_caption_says():
    generator = torch.Generator().manual_seed(0)
    means = torch.tensor([5.0, -5.0]).repeat(200)
    pitch, place = torch.randn(2, 400, 2, 10, generator=generator)
    pitch[:, 0] += means[:, None]
    place[:, 0] += means[:, None]
    place[:, 1] = -2 * pitch[:, 1]
    found = correlations({"audio": pitch, "video": place[..., None, None]}, means)
    assert found == {"pitch": pytest.approx(0, abs=0.05), "loudness": pytest.approx(-1)}
