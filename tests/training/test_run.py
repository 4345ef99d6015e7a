"""What `mmdisco train` writes, says and refuses."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny_runs import load, run, weights

from mmdisco_cli.assembly import assemble
from mmdisco_cli.backbones.options import TokenOptions
from mmdisco_cli.backbones.token import TokenBackbone, build, codec_fingerprint
from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.run.options import TrainOptions
from mmdisco_cli.training.directory import training_fingerprint
from mmdisco_cli.training.metrics import read_rows
from mmdisco_cli.training.run import train
from mmdisco_cli.weights_file import read_about

CPU = torch.device("cpu")


def test_a_discriminator_ends_as_a_file_that_samples_beside_its_bases(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = load(tmp_path), tmp_path / "out"
    train(recipe, TrainOptions(out=out, json=True))
    said = json.loads(capsys.readouterr().out)
    path = out / "discriminator.safetensors"
    assert said["path"] == str(path)
    assert set(said["results"]["heldout"]) == {"disc", "accuracy", "denoise", "gain", "interaction"}
    about = read_about(path, "discriminator")
    assert about["fingerprint"] == training_fingerprint(recipe)
    assert about["results"] == said["results"]
    found = assemble(replace(recipe, sample=replace(recipe.sample, weights=str(path))), CPU).discriminator
    assert found is not None
    own = dict(found.module.named_parameters())
    for name, tensor in weights(out).items():
        torch.testing.assert_close(own[name], tensor.half().float(), rtol=0, atol=0)


def test_a_backbone_ends_as_a_file_that_a_recipe_can_name(tmp_path: Path) -> None:
    recipe, out = load(tmp_path, "frames"), tmp_path / "out"
    run(recipe, out)
    path = out / "backbone.safetensors"
    about = read_about(path, "backbone")
    assert about["fingerprint"] == training_fingerprint(recipe)
    assert set(about["results"]["heldout"]["reconstruction"]) == {"psnr_db"}
    loaded = build("video", TokenOptions(weights=str(path)), Request())
    assert about["codec"] == codec_fingerprint(loaded)
    assert loaded.request.height == 16
    assert not torch.equal(loaded.codec.std, torch.ones(2))


def test_the_run_directory_says_everything(tmp_path: Path) -> None:
    run(load(tmp_path, "frames"), tmp_path / "out")
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {
        "recipe.yaml", "inputs.json", "environment.json", "metrics.jsonl", "loss.png", "codec", "denoiser", "bank",
        "backbone.safetensors", "best.safetensors", "progress.html", "release",
    }  # fmt: skip
    rows = read_rows(tmp_path / "out" / "metrics.jsonl")
    steps = [("codec", 4), *(("denoiser", k) for k in range(5, 31, 5)), ("denoiser-heldout", 30)]
    assert [(row["stage"], row["step"]) for row in rows] == steps
    assert (tmp_path / "out" / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_initialisation_is_seeded_right_before_the_network_is_built(tmp_path: Path) -> None:
    """What the shipped weights were made by: seed, network, training, and no other draw from the global generator."""
    from mmdisco_cli.training.base_models.backbone import build_backbone

    recipe = load(tmp_path, "frames", seed=3)
    torch.rand(5)
    ours = build_backbone(recipe).module.state_dict()
    torch.manual_seed(3)
    options = recipe.backbones["video"].options
    theirs = TokenBackbone("video", options, Request(1.6, 16, 10.0, 16, 16)).module.state_dict()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_a_finished_run_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, out = load(tmp_path), tmp_path / "out"
    run(recipe, out)
    first = capsys.readouterr()
    os.utime(out / "discriminator.safetensors", ns=(0, 0))
    run(recipe, out)
    again = capsys.readouterr()
    assert again.out == first.out
    assert "training is complete" in again.err
    assert (out / "discriminator.safetensors").stat().st_mtime_ns == 0


def test_another_recipe_is_refused_by_key_unless_fresh(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(load(tmp_path), out)
    changed = load(tmp_path, steps=20, learning_rate=2e-3)
    with pytest.raises(DataError, match=r"another train.steps, train.learning_rate: .*--fresh") as raised:
        run(changed, out)
    assert "\n" not in str(raised.value)
    run(changed, out, fresh=True)
    assert read_about(out / "discriminator.safetensors", "discriminator")["steps"] == 20


def test_what_training_does_not_depend_on_may_change(tmp_path: Path) -> None:
    recipe, out = load(tmp_path), tmp_path / "out"
    run(recipe, out)
    other = replace(load(tmp_path, log_every=2), summary="another", eval=replace(recipe.eval, n=7))
    assert training_fingerprint(other) == training_fingerprint(recipe)
    run(other, out)


def test_changed_base_models_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(load(tmp_path), out)
    (out / "inputs.json").write_text((out / "inputs.json").read_text().replace('"x": "', '"x": "0'))
    with pytest.raises(DataError, match=r"the content changed of backbones\.x: .*--fresh"):
        run(load(tmp_path), out)


def test_fresh_deletes_only_what_a_run_wrote(tmp_path: Path) -> None:
    recipe, out = load(tmp_path), tmp_path / "out"
    run(recipe, out)
    (out / "mine.txt").write_text("kept")
    os.utime(out / "discriminator.safetensors", ns=(0, 0))
    run(recipe, out, fresh=True)
    assert (out / "mine.txt").read_text() == "kept"
    assert (out / "discriminator.safetensors").stat().st_mtime_ns > 0


@pytest.mark.parametrize("name", ["points", "frames"])
def test_dry_run_says_what_it_would_do_and_writes_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = load(tmp_path, name)
    train(recipe, TrainOptions(out=tmp_path / "out", dry_run=True, json=True))
    plan = json.loads(capsys.readouterr().out)
    assert not (tmp_path / "out").exists()
    assert {"parameters", "steps", "latent_shapes", "memory_mb", "clips", "resumes"} <= set(plan)
    assert plan["resumes"] is False
    assert ("process_mb" in plan) == (plan["device"] == "cpu" and sys.platform == "linux")
    train(recipe, TrainOptions(out=tmp_path / "out", dry_run=True))
    assert "latent_shapes: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("points", {"target": "backbone"}, "backbone without weights, but those are: x, y"),
        ("frames", {"codec_steps": 0}, "train.codec_steps: 0 would leave the codec untrained"),
        ("frames", {"bank": 0}, "train.bank: "),
        ("frames", {"target": "discriminator"}, "recipe frames has no discriminator to train"),
        ("points", {"batch_size": 1}, "train.batch_size: shuffled fakes need at least 2 tuples"),
        ("points", {"batch_size": 3, "fakes": "mixed"}, "train.batch_size: mixed fakes need at least 4 tuples"),
    ],
)
def test_what_cannot_be_trained_is_refused_by_key(
    name: str, settings: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        run(load(tmp_path, name, **settings), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_runs_on_the_same_clips_can_share_what_is_encoded(tmp_path: Path) -> None:
    bank = tmp_path / "shared"
    recipe = load(tmp_path, "frames")
    train(recipe, TrainOptions(out=tmp_path / "one", bank=bank))
    (shard,) = bank.rglob("*.safetensors")
    os.utime(shard, ns=(0, 0))
    train(load(tmp_path, "frames", steps=20), TrainOptions(out=tmp_path / "two", bank=bank))
    assert shard.stat().st_mtime_ns == 0
    train(load(tmp_path, "frames", steps=20, bank=7), TrainOptions(out=tmp_path / "three", bank=bank))
    assert len(list(bank.rglob("*.safetensors"))) == 2  # other clips are another cache
    assert not any((tmp_path / name / "bank").exists() for name in ("one", "two", "three"))


@pytest.mark.parametrize("fakes", ["generated", "mixed"])
def test_generated_fakes_are_made_once(fakes: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmdisco_cli.training.data.DEFAULT_COUNT", 16)
    recipe, out = load(tmp_path, fakes=fakes), tmp_path / "out"
    run(recipe, out)
    (shard,) = (out / "bank").rglob("*.safetensors")
    os.utime(shard, ns=(0, 0))
    run(load(tmp_path, fakes=fakes, seed=0, steps=10), out, fresh=True)
    assert shard.stat().st_mtime_ns == 0
    changed = load(tmp_path, fakes=fakes, steps=10)
    with pytest.raises(DataError, match=r"another sample\.steps"):
        run(replace(changed, sample=replace(changed.sample, steps=4)), out)
