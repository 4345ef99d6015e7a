"""A training that is looked at: what is measured and kept, that nothing of it changes, and what failing leads to."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import alone, load, run, start
from watched import FEW_CLIPS, INDEPENDENT, UNSTABLE, watched

from mmdisco_cli.app import run as mmdisco
from mmdisco_cli.errors import DataError, ExitCode, Stopped
from mmdisco_cli.run.options import TrainOptions
from mmdisco_cli.training.discriminator import discriminator_job
from mmdisco_cli.training.metrics import heldout_rows, read_rows
from mmdisco_cli.training.monitoring.preview_rows import read_previews
from mmdisco_cli.training.run import train
from mmdisco_cli.weights_file import read_about, save_weights

LOOKED_AT = {"validate_every": 10, "preview_every": 10, "previews": 2}


def heldout(out: Path, stage: str = "discriminator") -> list[dict[str, float]]:
    return heldout_rows(out / "metrics.jsonl", stage)


@pytest.mark.parametrize("name", ["points", "frames"])
def test_whoever_looks_changes_nothing(name: str, tmp_path: Path) -> None:
    settings = LOOKED_AT if name == "points" else {"validate_every": 10}
    looked_at = run(load(tmp_path, name, **settings), tmp_path / "looked-at")
    unseen = run(load(tmp_path, name, validate_every=0), tmp_path / "alone")
    torch.testing.assert_close(looked_at, unseen, rtol=0, atol=0)
    files = {"points": "discriminator.safetensors", "frames": "backbone.safetensors"}
    ours, theirs = (load_file(tmp_path / out / files[name]) for out in ("looked-at", "alone"))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    stage = {"points": "discriminator", "frames": "denoiser"}[name]
    rows = [
        [r for r in read_rows(tmp_path / out / "metrics.jsonl") if r["stage"] == stage]
        for out in ("looked-at", "alone")
    ]
    assert rows[0] == rows[1]
    assert [row["step"] for row in heldout(tmp_path / "looked-at", stage)] == [10, 20, 30]
    assert heldout(tmp_path / "alone", stage) == []
    assert not (tmp_path / "alone/best.safetensors").exists()
    assert (tmp_path / "alone/progress.html").exists()


def test_base_models_that_draw_from_global_generators_do_not_move_those_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network with dropout takes its numbers from the global generator, in training and when it is sampled."""
    from mmdisco_cli.discriminators import mlp

    forward = mlp.VectorMLP.forward

    def noisy(self, *arguments, **named):  # type: ignore[no-untyped-def]
        return forward(self, *arguments, **named) * (1 + 0.1 * torch.rand(()))

    monkeypatch.setattr(mlp.VectorMLP, "forward", noisy)
    looked_at = run(load(tmp_path, **LOOKED_AT), tmp_path / "looked-at")
    unseen = run(load(tmp_path, validate_every=0), tmp_path / "alone")
    torch.testing.assert_close(looked_at, unseen, rtol=0, atol=0)


def test_the_best_weights_are_those_of_the_highest_held_out_gain(tmp_path: Path) -> None:
    recipe, out = watched(tmp_path, *FEW_CLIPS), tmp_path / "out"
    train(recipe, TrainOptions(out=out))
    rows = heldout(out)
    best = max(rows, key=lambda row: row["gain"])
    assert best["step"] < recipe.train.steps
    about = read_about(out / "best.safetensors", "discriminator")
    assert about["results"]["step"] == best["step"]
    assert about["results"]["chosen_by"] == "gain"
    assert about["results"]["heldout"] == {k: v for k, v in best.items() if k not in ("stage", "step")}
    # They are the weights that such figures are of.
    context = alone(recipe, out)
    job = discriminator_job(context)
    job.measured.extend(job._heldout_tuples(context))
    job.module.load_state_dict({name: x.float() for name, x in load_file(out / "best.safetensors").items()})
    measure = job._probe(context, lambda: None).measure
    assert measure is not None
    again = measure()
    assert {name: again[name] for name in ("gain", "disc")} == pytest.approx(
        {name: best[name] for name in ("gain", "disc")}, abs=1e-5
    )


def test_without_the_denoising_loss_the_best_are_those_of_the_lowest_held_out_loss(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(load(tmp_path, lambda_denoise=0, validate_every=5, learning_rate=0.1), out)
    rows = heldout(out)
    assert "gain" not in rows[0]
    results = read_about(out / "best.safetensors", "discriminator")["results"]
    assert (results["step"], results["chosen_by"]) == (min(rows, key=lambda row: row["disc"])["step"], "disc")


def test_best_weights_sample_as_any_others_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(load(tmp_path), tmp_path / "out")
    arguments = ["sample", "--recipe", "points.yaml", "--n", "1", "--set", "sample.weights=out/best.safetensors"]
    assert mmdisco([*arguments, "--out", "samples"]) == ExitCode.OK


def test_a_spoilt_file_of_best_weights_is_written_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(load(tmp_path), out)
    for spoilt in (b"nonsense", b""):
        (out / "best.safetensors").write_bytes(spoilt)
        run(load(tmp_path, steps=40 if spoilt else 50), out)
        assert read_about(out / "best.safetensors", "discriminator")["results"]["step"] == (40 if spoilt else 50)
    save_weights(out / "best.safetensors", {}, {"kind": "discriminator", "results": []})
    run(load(tmp_path, steps=60), out)
    assert read_about(out / "best.safetensors", "discriminator")["results"]["step"] == 60


def test_figures_that_are_not_finite_are_said_and_end_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mmdisco_cli.training.monitoring.probes.gain_by_level", lambda *a: {"+0": math.nan})
    run(load(tmp_path), tmp_path / "out")
    assert "step 30: nothing is measured on held-out clips: gain_by_log_snr.+0" in capsys.readouterr().err
    assert heldout(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("settings", "name", "keys"),
    [
        (UNSTABLE, "unstable gradient since step 5: ", "train.learning_rate lower"),
        (INDEPENDENT, "discriminator collapse since step 10: ", "the modalities are independent"),
        (("train.learning_rate=0",), "discriminator collapse since step 10: ", "train.learning_rate"),
        (("train.learning_rate=0", "train.lambda_disc=0"), "discriminator collapse since step 10: ", "sample.window"),
        (FEW_CLIPS, "overfitting since step ", "more clips (train.bank)"),
    ],
)
def test_each_way_to_fail_is_said_once_in_one_line(
    settings: tuple[str, ...], name: str, keys: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    train(watched(tmp_path, *settings), TrainOptions(out=out))
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    warnings = [line for line in said if " since step " in line]
    assert len(warnings) == 1
    assert warnings[0].startswith(f"warning: {name}")
    assert keys in warnings[0]
    page = (out / "progress.html").read_text()
    assert name.split(" since")[0].capitalize() + " since step" in page
    assert (out / "discriminator.safetensors").exists()


def test_a_training_that_goes_well_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(watched(tmp_path, "train.validate_every=15"), TrainOptions(out=tmp_path / "out"))
    assert "warning" not in capsys.readouterr().err
    assert "No sign of failing" in (tmp_path / "out/progress.html").read_text()


def test_with_stop_it_ends_with_its_state_saved_and_warn_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    watched(tmp_path)
    settings = [f"--set={one}" for one in (*UNSTABLE, "train.on_failure=stop")]
    command = ["train", "--recipe", "watched.yaml", "--out", "out", *settings]
    for _ in range(2):  # the same command again finds the same sign
        assert mmdisco(command) == ExitCode.DATA
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1
        assert "unstable gradient since step 5: " in errors[0]
        assert "state saved at step " in errors[0]
    saved = torch.load(tmp_path / "out/discriminator/state.pt", weights_only=True)["step"]
    assert 5 <= saved < 20
    assert not (tmp_path / "out/discriminator.safetensors").exists()
    assert mmdisco([*command, "--set=train.on_failure=warn"]) == ExitCode.OK
    assert (tmp_path / "out/discriminator.safetensors").exists()


@pytest.mark.parametrize(
    ("settings", "state"),
    [
        ((*UNSTABLE, "train.on_failure=stop"), "unstable gradient since step 5"),
        (("train.learning_rate=1e10", "train.warmup=0", "train.clip=0"), "training diverged at step "),
    ],
)
def test_the_page_of_a_training_that_has_failed_says_so(settings: tuple[str, ...], state: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(DataError, match=state) as raised:
        train(watched(tmp_path, *settings), TrainOptions(out=out))
    assert "try train.learning_rate lower" in str(raised.value)
    page = (out / "progress.html").read_text()
    assert "ended before its last step" in page
    assert state in page
    assert "Try train.learning_rate lower" in page or "try train.learning_rate lower" in page
    assert "No sign of failing" not in page
    assert "Nothing to see yet" not in page
    assert "location.reload()" not in page


def test_the_page_is_there_before_the_first_figures_and_says_what_stopped_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mmdisco_cli.training.loop import Context

    out, seen = tmp_path / "out", []

    def stop(self: Context) -> bool:
        seen.append((out / "progress.html").read_text())
        self.stop.set(15)
        return True

    monkeypatch.setattr(Context, "must_stop", stop)
    with pytest.raises(Stopped):
        run(load(tmp_path), out)
    assert "step 0 of 30 · this page is loaded again" in seen[0]
    assert "Nothing to see yet" in seen[0]
    page = (out / "progress.html").read_text()
    assert "stopped by SIGTERM at step 1 of 30, state saved; run the same command again" in page
    assert "location.reload()" not in page


@pytest.mark.parametrize(("every", "enough"), [(15, True), (60, False)])
def test_a_short_training_with_few_lines_of_figures_is_looked_at_too(
    every: int, enough: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ("train.learning_rate=0", "train.steps=120", f"train.log_every={every}")
    train(watched(tmp_path, *settings), TrainOptions(out=tmp_path / "out"))
    assert ("warning: discriminator collapse since step " in capsys.readouterr().err) == enough
    few = "There are too few lines of figures yet for a collapse to show."
    assert (few in (tmp_path / "out/progress.html").read_text()) != enough


def test_a_batch_of_two_that_learns_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ("train.batch_size=2", "train.log_every=1", "train.steps=150")
    train(watched(tmp_path, *small), TrainOptions(out=tmp_path / "out"))
    assert " since step " not in capsys.readouterr().err


def test_levels_that_guidance_never_acts_at_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(watched(tmp_path, "sample.window=[10,12]"), TrainOptions(out=tmp_path / "out"))
    said = [line for line in capsys.readouterr().err.splitlines() if " since step " in line]
    assert len(said) == 1
    assert said[0].startswith("warning: guidance without effect since step 10: none of the noise levels")
    assert said[0].endswith("try train.noise_levels.mean, sample.window")


def test_none_of_the_keys_makes_another_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(load(tmp_path), tmp_path / "out")
    other = load(tmp_path, validate_every=3, preview_every=7, previews=1, on_failure="stop")
    run(other, tmp_path / "out")
    assert "training is complete" in capsys.readouterr().err
    with pytest.raises(DataError):
        run(replace(other, train=replace(other.train, batch_size=4)), tmp_path / "out")


@pytest.mark.slow
def test_two_ranks_look_once_and_stop_together(tmp_path: Path) -> None:
    watched(tmp_path)
    shown = ("train.validate_every=10", "train.preview_every=10", "train.previews=2", "train.steps=20")
    for settings, code in ((shown, 0), ((*UNSTABLE, "train.on_failure=stop"), 1)):
        command = (
            "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "--", "mmdisco_cli", "train",
            "--recipe", "watched.yaml", "--out", f"out{code}", *(f"--set={one}" for one in settings),
        )  # fmt: skip
        with start(*command, cwd=tmp_path) as process:
            _, messages = process.communicate(timeout=600)
        assert (process.returncode != 0) == bool(code), messages
        assert messages.count("held-out: ") == (0 if code else 2)
        assert messages.count("warning: unstable gradient") == code
    out = tmp_path / "out0"
    assert [row["step"] for row in heldout(out)] == [10, 20]
    lines = (out / "previews/previews.jsonl").read_text().splitlines()
    assert [(json.loads(line)["step"], json.loads(line)["index"]) for line in lines] == [
        (10, 0),
        (10, 1),
        (20, 0),
        (20, 1),
    ]
    assert len(read_previews(out / "previews")) == 4
    assert (tmp_path / "out1/discriminator/state.pt").exists()
