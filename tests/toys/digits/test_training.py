"""Base models of digits, each trained on one modality alone: pixels by `token`, a VAE and a GAN."""

import json
from pathlib import Path

import pytest
import torch
from small_digits import ASSETS

from mmdisco_cli.assembly import assemble
from mmdisco_cli.backbones.latent_gaussian import build
from mmdisco_cli.backbones.options import LatentGaussianOptions
from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import UsageError
from mmdisco_cli.recipes.recipe import load
from mmdisco_cli.run.options import SampleOptions, TrainOptions
from mmdisco_cli.sampling.run import sample
from mmdisco_cli.training.directory import training_fingerprint
from mmdisco_cli.training.metrics import read_rows
from mmdisco_cli.training.run import train
from mmdisco_cli.weights_file import read_about

MODELS = {
    "token": "{name: token, codec: pixels, latent_channels: 1, patch: [7, 7], width: 8, depth: 1, heads: 2}",
    "vae": "{name: latent-gaussian, generator: vae, latent_channels: 3, width: 4}",
    "gan": "{name: latent-gaussian, generator: gan, latent_channels: 3, width: 4}",
}
RECIPE = """
summary: written digits alone
data: {{name: digits, written: {written}, pairs: 40}}
request: {{height: 28, width: 28}}
backbones: {{image: {model}}}
train: {{target: backbone, steps: {steps}, batch_size: 4, bank: 16, checkpoint_every: 4, log_every: 2, warmup: 2}}
sample: {{steps: 3}}
"""


def recipe_of(folder, name, steps=8, changes=()):
    path = folder / f"{name}.yaml"
    path.write_text(RECIPE.format(written=ASSETS / "written", model=MODELS[name], steps=steps))
    return load(str(path), list(changes))


@pytest.mark.parametrize("name", MODELS)
def test_a_trained_model_is_a_file_that_a_recipe_samples_from(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    recipe = recipe_of(tmp_path, name)
    train(recipe, TrainOptions(out=Path("out"), json=True))
    said = json.loads(capsys.readouterr().out)
    about = read_about(Path("out/backbone.safetensors"), "backbone")
    assert about["fingerprint"] == training_fingerprint(recipe)
    assert about["results"] == said["results"]
    assert set(said["results"]["heldout"]) > {"clips"}
    kind = MODELS[name].split(",")[0].removeprefix("{name: ")
    settings = [f"backbones.image={{name: {kind}, weights: out/backbone.safetensors}}"]
    again = recipe_of(tmp_path, name, changes=settings)
    assert "untrained" not in assemble(again, torch.device("cpu"), with_discriminator=False).fingerprints.values()
    sample(again, SampleOptions(n=2, out=Path("samples"), independent=True))
    assert len(list(Path("samples").glob("*.png"))) == 2


@pytest.mark.parametrize("name", ["vae", "gan"])
def test_a_generator_goes_on_and_trains_every_network(tmp_path, name):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(recipe_of(tmp_path, name), TrainOptions(out=whole))
    train(recipe_of(tmp_path, name, steps=4), TrainOptions(out=parts))
    (parts / "backbone.safetensors").unlink()
    train(recipe_of(tmp_path, name, steps=4), TrainOptions(out=parts))  # from its state alone
    assert [row["stage"] for row in read_rows(parts / "metrics.jsonl")] == ["generator"] * 2 + ["generator-heldout"]
    train(recipe_of(tmp_path, name, steps=8), TrainOptions(out=parts))  # and on to more steps
    rows = [row for row in read_rows(parts / "metrics.jsonl") if row["stage"] == "generator"]
    assert [row["step"] for row in rows] == [2, 4, 6, 8]
    torch.manual_seed(0)
    fresh = build("image", recipe_of(tmp_path, name).backbones["image"].options, Request(height=28, width=28))
    ended = build("image", LatentGaussianOptions(weights=str(whole / "backbone.safetensors")), Request())
    for part, network in fresh.module.named_children():
        pairs = zip(network.parameters(), ended.module.get_submodule(part).parameters(), strict=True)
        assert max(float((a - b).detach().abs().max()) for a, b in pairs) > 1e-3, part


def test_the_loss_of_a_vae_falls(tmp_path):
    recipe = recipe_of(tmp_path, "vae", steps=60, changes=["train.learning_rate=3e-3"])
    train(recipe, TrainOptions(out=tmp_path / "out"))
    losses = [row["loss"] for row in read_rows(tmp_path / "out" / "metrics.jsonl")]
    assert sum(losses[-5:]) / 5 < 0.7 * losses[0]


def test_a_plan_of_a_generator_says_its_size(tmp_path, capsys):
    train(recipe_of(tmp_path, "gan"), TrainOptions(out=tmp_path / "out", dry_run=True, json=True))
    plan = json.loads(capsys.readouterr().out)
    assert plan["latent_shapes"] == {"image": [3]}
    assert plan["steps"] == {"generator": 8}
    assert (plan["clips"], plan["bank"]) == (40, 16)
    assert not (tmp_path / "out").exists()


def test_a_bank_cannot_be_trained(tmp_path):
    recipe = recipe_of(tmp_path, "vae", changes=["backbones.image={name: bank, texts: [a, b]}"])
    with pytest.raises(UsageError, match="image: bank cannot be trained here, only token and latent-gaussian can"):
        train(recipe, TrainOptions(out=tmp_path / "out"))
