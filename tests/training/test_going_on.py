"""Trainings that go on from other weights: a base model from its base, a discriminator from another one."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import POINTS, load, run, weights

from mmdisco_cli.backbones.options import TokenOptions
from mmdisco_cli.backbones.token import TokenBackbone, build
from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run.options import TrainOptions
from mmdisco_cli.tensors.files import read_safetensors
from mmdisco_cli.training.directory import training_fingerprint
from mmdisco_cli.training.run import train
from mmdisco_cli.weights_file import read_about, save_weights

CAPTIONED = """
summary: frames of one cell, with captions
data: {{name: bounce, captions: {captions}}}
request: {{seconds: 1.6, frames: 16, fps: 10, height: 16, width: 16}}
backbones:
  video: {{name: token, base: {base}, text: 4}}
train: {{target: backbone, steps: 30, batch_size: 4, bank: 6, checkpoint_every: 10, log_every: 5, learning_rate: 0.02}}
"""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a tiny model of frames."""
    folder = tmp_path_factory.mktemp("base")
    run(load(folder, "frames"), folder / "out")
    return folder / "out" / "backbone.safetensors"


def captioned(folder: Path, base: Path, *settings: str, captions: str = "true") -> Recipe:
    path = folder / "captioned.yaml"
    path.write_text(CAPTIONED.format(base=base, captions=captions))
    return recipes.load(str(path), settings)


def loaded(path: Path) -> TokenBackbone:
    return build("video", TokenOptions(weights=str(path)), Request())


def test_a_model_learns_captions_on_top_of_its_base_and_its_file_holds_what_it_changed(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = captioned(tmp_path, base), tmp_path / "out"
    train(recipe, TrainOptions(out=out, dry_run=True, json=True))
    plan = json.loads(capsys.readouterr().out)
    assert (plan["captions"], plan["text_dropout"], plan["steps"]["codec"]) == (6, 0.1, 0)
    train(recipe, TrainOptions(out=out))
    path = out / "backbone.safetensors"
    about, stored = read_about(path, "backbone"), read_safetensors(path)
    assert about["fingerprint"] == training_fingerprint(recipe)
    assert about["results"]["heldout"]["x0_error_by_log_snr"]
    assert not any(name.startswith("codec.") or name.startswith("denoiser.blocks.0.up.") for name in stored)
    assert {"denoiser.text.start", "denoiser.by_text.0.weight", "denoiser.blocks.0.down.weight"} <= stored.keys()
    text = sum(2 * tensor.numel() for name, tensor in stored.items() if "text" in name)
    assert path.stat().st_size - text < base.stat().st_size / 4
    model, before = loaded(path), loaded(base)
    published = loaded(out / "release" / "backbone.safetensors").module.state_dict()  # whole: others have no base
    assert all(torch.equal(tensor, published[name]) for name, tensor in model.module.state_dict().items())
    assert str(base) not in str(read_about(out / "release" / "backbone.safetensors", "backbone"))
    assert all(
        torch.equal(tensor, before.module.state_dict()[name])
        for name, tensor in model.module.state_dict().items()
        if name not in stored
    )
    plan = model.plan(model.request)
    one, other = model.encode_prompt(["a large glass ball", "a small wooden ball"], None, plan).positive.split(1)
    x, t = torch.zeros(1, *plan.latent_shape), torch.tensor([0.5])
    assert not torch.equal(model.predict(x, t, one, plan), model.predict(x, t, other, plan))
    inputs = json.loads((out / "inputs.json").read_text())
    assert inputs.keys() == {"data", "base", "captions", "train.text_dropout"}


def test_it_ends_in_the_same_weights_every_time(tmp_path: Path, base: Path) -> None:
    for name in ("one", "again"):
        train(captioned(tmp_path, base, "train.steps=10"), TrainOptions(out=tmp_path / name))
    first, second = (read_safetensors(tmp_path / name / "backbone.safetensors") for name in ("one", "again"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_with_another_dropout_or_base_it_is_another_run(tmp_path: Path, base: Path) -> None:
    recipe, out = captioned(tmp_path, base), tmp_path / "out"
    train(recipe, TrainOptions(out=out))
    with pytest.raises(DataError, match=r"the content changed of train\.text_dropout"):
        train(captioned(tmp_path, base, "train.text_dropout=0.5"), TrainOptions(out=out))
    other = tmp_path / "other.safetensors"
    tensors = read_safetensors(base)
    tensors["denoiser.position"] += 1
    save_weights(other, tensors, read_about(base, "backbone"))
    with pytest.raises(DataError, match=r"another backbones\.video\.base"):
        train(captioned(tmp_path, other), TrainOptions(out=out))


@pytest.mark.parametrize(
    ("settings", "captions", "said"),
    [
        (["train.codec_steps=5"], "true", r"train\.codec_steps: the codec is that of backbones\.video\.base, so 0"),
        ([], "false", r"backbones\.video\.text: the data have no captions to learn from"),
        (["train.init=bounce"], "true", "init.*is for discriminators: a base model goes on from backbones"),
    ],
)
def test_what_does_not_go_together_is_said_by_key(
    settings: list[str], captions: str, said: str, tmp_path: Path, base: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        train(captioned(tmp_path, base, *settings, captions=captions), TrainOptions(out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_base_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no weights 'bounce-adio'.*did you mean bounce-audio"):
        train(captioned(tmp_path, Path("bounce-adio")), TrainOptions(out=tmp_path / "out"))


def points(folder: Path, first: Path, **settings: Any) -> Recipe:
    return load(folder, "points", init=str(first), **settings)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a tiny discriminator."""
    folder = tmp_path_factory.mktemp("first")
    run(load(folder), folder / "out")
    return folder / "out" / "discriminator.safetensors"


def test_a_discriminator_starts_from_the_weights_of_another(
    tmp_path: Path, first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    run(points(tmp_path, first, steps=1, learning_rate=0.0), out)
    assert f"starting from {first}" in capsys.readouterr().err
    stored = read_safetensors(first)
    found = weights(out)
    assert all(torch.equal(found[name], stored[name].float()) for name in found)
    assert json.loads((out / "inputs.json").read_text()).keys() == {"data", "backbones", "train.init"}


def test_where_it_starts_belongs_to_the_run_and_only_where_it_does(tmp_path: Path, first: Path) -> None:
    plain, started = load(tmp_path), points(tmp_path, first)
    assert training_fingerprint(plain) != training_fingerprint(started)
    assert "init" not in "".join(map(str, plain.identity()["backbones"]))
    run(started, tmp_path / "out")
    with pytest.raises(DataError, match=r"the content changed of train\.init"):
        run(load(tmp_path), tmp_path / "out")
    tensors = read_safetensors(first)
    save_weights(first, {name: tensor + 0.5 for name, tensor in tensors.items()}, read_about(first, "discriminator"))
    with pytest.raises(DataError, match=r"the content changed of train\.init"):
        run(started, tmp_path / "out")
    save_weights(first, tensors, read_about(first, "discriminator"))


def test_layers_that_the_file_lacks_are_new_and_named(
    tmp_path: Path, first: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored = dict(read_safetensors(first))
    dropped = sorted(stored)[0]
    del stored[dropped]
    save_weights(tmp_path / "less.safetensors", stored, read_about(first, "discriminator"))
    run(points(tmp_path, tmp_path / "less.safetensors", steps=1), tmp_path / "out")
    assert f"less.safetensors; new are {dropped}" in capsys.readouterr().err


def test_a_file_that_does_not_fit_is_refused_with_what_does_not(tmp_path: Path, first: Path, base: Path) -> None:
    (tmp_path / "points.yaml").write_text(POINTS.replace("width: 16", "width: 12"))
    narrow = recipes.load(str(tmp_path / "points.yaml"), [f"train.init={first}"])
    with pytest.raises(DataError, match=r"train\.init: .* does not fit this discriminator: .* is \(16, .*, here \(12,"):
        train(narrow, TrainOptions(out=tmp_path / "out"))
    about = read_about(first, "discriminator")
    save_weights(tmp_path / "more.safetensors", {"other": torch.zeros(2), **read_safetensors(first)}, about)
    with pytest.raises(DataError, match=r"does not fit this discriminator: no other here"):
        run(points(tmp_path, tmp_path / "more.safetensors"), tmp_path / "out")
    save_weights(tmp_path / "kind.safetensors", read_safetensors(first), about | {"name": "energy"})
    with pytest.raises(DataError, match=r"train\.init: .* holds a discriminator energy, not mlp"):
        run(points(tmp_path, tmp_path / "kind.safetensors"), tmp_path / "out")
    with pytest.raises(DataError, match="holds a backbone, not a discriminator"):
        run(points(tmp_path, base), tmp_path / "out")
    bad = {name: tensor * float("nan") for name, tensor in read_safetensors(first).items()}
    save_weights(tmp_path / "nan.safetensors", bad, about)
    with pytest.raises(DataError, match="nan"):
        run(points(tmp_path, tmp_path / "nan.safetensors"), tmp_path / "out")


def test_options_of_later_name_no_other_training() -> None:
    """The shipped weights of base models were trained before there were captions, and are still those of recipes."""
    for name in ("bounce-audio", "bounce-video", "bounce", "clips-audio"):
        recipe = recipes.load(name)
        for label, part in recipe.identity()["backbones"].items():
            assert not {"base", "text", "pooled"} & part.keys()
            shown = recipe.backbones[label]
            other = replace(shown, options=replace(shown.options, pooled=False))
            changed = replace(recipe, backbones={**recipe.backbones, label: other})
            assert training_fingerprint(changed) != training_fingerprint(recipe)
