"""The Python API, used as in a notebook: sample, give, train on tensors, evaluate, replace what a recipe names."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import mmdisco_cli as mmdisco
from mmdisco_cli.api.sample import write_folder
from mmdisco_cli.api.tuples import as_data
from mmdisco_cli.app import run
from mmdisco_cli.data.media import read_audio, read_video
from mmdisco_cli.errors import DataError, PluginError, UsageError
from mmdisco_cli.toys.gaussians.data import Gaussians
from mmdisco_cli.toys.gaussians.options import GaussiansOptions

QUICK = {"sample.steps": 4, "sample.gibbs_steps": 2, "sample.joint_steps": 1, "sample.batch_size": 2}
SCALARS = {"train.steps": 30, "train.bank": 0, "train.log_every": 10, "sample.steps": 8}


@pytest.fixture(scope="module")
def bounce() -> mmdisco.JointModel:
    return mmdisco.load("bounce", QUICK)


def test_the_package_starts_without_torch() -> None:
    code = "import sys, mmdisco_cli; assert 'torch' not in sys.modules; mmdisco_cli.load; assert 'torch' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_samples_are_those_of_the_command(bounce, in_empty_folder: Path, capsys) -> None:
    samples = bounce.sample(3, seed=5)
    settings = [part for key, value in QUICK.items() for part in ("--set", f"{key}={value}")]
    assert run(["sample", "--recipe", "bounce", "-n", "3", "--seed", "5", "--json", "-o", "made", *settings]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [sample.logit for sample in samples] == pytest.approx([row["logit"] for row in rows], abs=1e-3)
    for sample, row in zip(samples, rows, strict=True):
        written = read_video(Path(row["path"]), None, 16, 10, 64, 64)
        assert (written - sample.media["video"]).abs().mean() < 0.02  # what H.264 leaves of it


def test_a_sample_is_written_and_shown(bounce, tmp_path: Path) -> None:
    (sample,) = bounce.sample(1)
    assert sample.media["audio"].shape == (1, 25600)
    assert sample.media["video"].shape == (3, 16, 64, 64)
    assert sample.kinds == {"audio": "audio", "video": "video"}
    assert sample.latents["audio"].shape == sample.plans["audio"].latent_shape
    assert sample.save(tmp_path / "some" / "folder") == [tmp_path / "some" / "folder" / "00000-seed0.mp4"]
    assert sample.save(tmp_path / "mine.mp4") == [tmp_path / "mine.mp4"]
    assert read_audio(tmp_path / "mine.mp4", None, 1.6, 16000).shape == (1, 25600)
    with pytest.raises(UsageError, match=r"a sample is saved as \.mp4"):
        sample.save(tmp_path / "mine.wav")
    for saved in (sample.save(tmp_path / "mine.webm"), sample.save(tmp_path / "some", video="webm")):
        assert saved[0].suffix == ".webm"
        assert saved[0].read_bytes()[:4] == b"\x1aE\xdf\xa3"  # as Matroska begins
    with pytest.raises(UsageError, match=r"video avi: unknown"):
        sample.save(tmp_path, video="avi")
    drawn = mmdisco.sheet([sample], tmp_path / "sheet.png").read_bytes()
    assert drawn[:4] == b"\x89PNG"
    write_folder(tmp_path / "run", [sample])
    assert mmdisco.sheet(tmp_path / "run", tmp_path / "again.png").read_bytes() == drawn
    with pytest.raises(UsageError, match="a sheet is written as"):
        mmdisco.sheet([sample], tmp_path / "sheet.jpg")
    assert "data:video/mp4;base64," in sample._repr_html_()
    assert len(repr(sample)) < 200


def test_every_step_calls_back_and_may_stop(bounce) -> None:
    steps: list[mmdisco.Step] = []
    bounce.sample(3, callback=steps.append)
    assert [step.number for step in steps] == [*range(1, 7)] * 2  # two batches of 4 steps, and 2 of the audio alone
    assert {step.steps for step in steps} == {6}
    assert steps[0].x0["video"].shape == steps[0].states["video"].shape

    def stop(step: mmdisco.Step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bounce.sample(1, callback=stop)


def test_media_in_memory_are_given(bounce) -> None:
    video = torch.rand(2, 3, 16, 64, 64) * 2 - 1
    samples = bounce.sample(3, given={"video": video})
    assert all(torch.equal(sample.media["video"], video[k % 2]) for k, sample in enumerate(samples))
    assert torch.equal(bounce.sample(1, given={"video": video[0]})[0].media["audio"], samples[0].media["audio"]) or (
        # Rounding differs by batch, and phases of audio follow it.
        (samples[0].latents["audio"] - bounce.sample(1, given={"video": video[0]})[0].latents["audio"]).abs().max()
        < 0.01
    )
    with pytest.raises(UsageError, match=r"media of shape \(3, 4, 4\), but the model takes"):
        bounce.sample(1, given={"video": torch.zeros(3, 4, 4)})


def test_independent_samples_are_of_the_same_noise(bounce) -> None:
    alone, guided = bounce.sample(1, independent=True)[0], bounce.sample(1)[0]
    assert alone.logit is not None
    assert not torch.equal(alone.media["video"], guided.media["video"])


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean bounce"):
        mmdisco.load("bonce")
    with pytest.raises(UsageError, match=r"sample\.stepps: unknown key"):
        mmdisco.load("bounce", {"sample.stepps": 3})
    with pytest.raises(UsageError, match="recipe bounce has no smell, but audio, video"):
        mmdisco.load("bounce", backbones={"smell": object()})
    with pytest.raises(UsageError, match="object is not a Backbone, and token does not adopt it"):
        mmdisco.load("bounce", backbones={"audio": object()})
    with pytest.raises(PluginError):
        mmdisco.load("bounce", {"data.name": "nowhere"})


class Points(torch.utils.data.Dataset):
    """Tuples of two scalars as a torch Dataset."""

    def __init__(self, count: int) -> None:
        data = Gaussians(GaussiansOptions())
        self.rows = dict(data.media(range(count), ("x", "y")).items())

    def __len__(self) -> int:
        return len(self.rows["x"])

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {m: x[index] for m, x in self.rows.items()}


def test_a_discriminator_is_trained_on_a_dataset_of_torch(in_empty_folder: Path) -> None:
    model, seen = mmdisco.load("gaussians", SCALARS), []
    trained = model.train(
        Points(200), out="run", callback=lambda stage, step, steps, figures: seen.append((step, steps))
    )
    assert seen[-1] == (30, 30)
    assert trained.results is not None
    assert trained.results["heldout"]
    assert Path("run/discriminator.safetensors").is_file()
    samples = trained.sample(4)
    assert samples[0].logit is not None
    again = model.train(Points(200), out="run")  # complete: nothing is trained again
    assert torch.equal(again.sample(4)[0].media["x"], samples[0].media["x"])
    with pytest.raises(DataError, match="content changed of data"):
        model.train(Points(201), out="run")


def test_models_in_memory_take_the_place_of_a_recipes(in_empty_folder: Path) -> None:
    trained = mmdisco.load("gaussians", SCALARS).train(out="run")
    built = trained._joined
    base = built.models["x"].backbone
    module = built.discriminator.module
    model = mmdisco.load("gaussians", SCALARS, backbones={"x": base}, discriminator=module)
    assert torch.equal(model.sample(3, seed=2)[1].media["y"], trained.sample(3, seed=2)[1].media["y"])


def test_samples_in_memory_are_evaluated(bounce, in_empty_folder: Path) -> None:
    model = mmdisco.load("bounce", {**QUICK, "eval.n": 4})
    found = model.evaluate(model.sample(4), metrics=["event_iou"])
    assert 0 <= found["metrics"]["event_iou"]["guided"]["value"] <= 1
    assert Path("runs/bounce/eval/report.html").is_file()


def test_items_of_a_dataset_are_split_and_named_by_content() -> None:
    data = as_data(Points(30))
    assert (data.split("train").length, data.split("heldout").length) == (27, 3)
    assert data.fingerprint == as_data(Points(30)).fingerprint != as_data(Points(31)).fingerprint
    apart = as_data(Points(30), Points(5))
    assert (apart.split("train").length, apart.split("heldout").length) == (30, 5)
    with pytest.raises(DataError, match="no heldout items"):
        as_data(Points(9)).split("heldout")
    with pytest.raises(UsageError, match="no length"):
        as_data(iter([1]))
    with pytest.raises(DataError, match="item 0 is a int, not a mapping"):
        as_data([1, 2]).media([0], ["x"])
    said = as_data([{"x": torch.zeros(1), "caption": "one", "caption_y": "two", "label": "three"}])
    assert said.captions([0], ["x", "y"]) == {"x": ["one"], "y": ["two"]}
    assert said.labels([0]) == ["three"]
