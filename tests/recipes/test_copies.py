"""A copied recipe stands by itself: it samples with what its own training writes."""

import re
from pathlib import Path

import pytest

from mmdisco_cli import app
from mmdisco_cli.recipes.copies import renamed
from mmdisco_cli.recipes.recipe import load, packaged


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", ["mine", "my clips", "[mine]", "a: b", "été", "2", "gaussians"])
def test_a_copy_samples_with_what_its_own_training_writes(name, tmp_path):
    assert app.run(["recipes", "copy", "gaussians", f"{name}.yaml"]) == 0
    copy = load(f"{name}.yaml")
    assert copy.sample.weights == f"runs/{copy.name}/train/discriminator.safetensors"
    changed = load("gaussians", [f"sample.weights={copy.sample.weights!r}"])
    assert copy.to_dict() == {**changed.to_dict(), "name": copy.name}


def test_base_models_stay_those_of_other_runs():
    text = packaged()["clips"].read_text()
    changed = renamed(text, "clips", Path("mine.yaml"))
    assert changed.count("runs/clips-audio/train/backbone.safetensors") == text.count("runs/clips-audio/train/")
    assert "weights: runs/mine/train/discriminator.safetensors" in changed


@pytest.mark.parametrize("name", packaged())
def test_nothing_of_a_copy_names_the_runs_or_the_recipe_that_it_was(name):
    text = packaged()[name].read_text()
    changed = renamed(text, name, Path("folder/mine.yaml"))
    assert not re.search(rf"(runs/{name}/|--recipe {name}(?![\w-]))", changed)
    back = changed.replace("runs/mine/", f"runs/{name}/").replace("--recipe folder/mine.yaml", f"--recipe {name}")
    assert back == text


def test_a_copy_of_the_same_name_is_the_same_text():
    text = packaged()["clips"].read_text()
    assert renamed(text, "clips", Path("clips.yaml")) == text
