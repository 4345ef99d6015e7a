"""Figures sent to TensorBoard and to Weights & Biases are those of metrics.jsonl."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_runs import load, run, start

from mmdisco_cli.app import run as mmdisco
from mmdisco_cli.errors import ExitCode, Stopped, UsageError
from mmdisco_cli.training.loop import Context
from mmdisco_cli.training.metrics import read_rows
from mmdisco_cli.training.monitoring import trackers
from mmdisco_cli.training.monitoring.trackers import scalars

BOTH = "[jsonl, tensorboard]"


def events(folder: Path, tag: str) -> list[tuple[int, float]]:
    """Return what TensorBoard itself reads of a figure."""
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    accumulator = reading.EventAccumulator(str(folder))
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


def lines(out: Path, stage: str, name: str) -> list[tuple[int, float]]:
    return [(row["step"], row[name]) for row in read_rows(out / "metrics.jsonl") if row["stage"] == stage]


def test_tensorboard_reads_every_line_of_the_training(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    out = tmp_path / "out"
    run(load(tmp_path, log=BOTH, validate_every=10), out)
    for stage in ("discriminator", "discriminator-heldout"):
        for name in ("disc", "gain"):
            found, expected = events(out / "tensorboard" / stage, name), lines(out, stage, name)
            assert [step for step, _ in found] == [step for step, _ in expected]
            assert [value for _, value in found] == pytest.approx([value for _, value in expected], rel=1e-5)
    assert [step for step, _ in events(out / "tensorboard/discriminator-heldout", "gain_by_log_snr/+0")] == [10, 20, 30]
    run(load(tmp_path, log=BOTH), out, fresh=True)
    assert len(events(out / "tensorboard/discriminator", "disc")) == 6


def test_steps_that_are_taken_twice_count_once_in_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    out, recipe = tmp_path / "out", load(tmp_path, log=BOTH)
    calls = iter(range(1, 100))
    with monkeypatch.context() as patched:
        patched.setattr(Context, "must_stop", lambda self: next(calls) == 17)
        with pytest.raises(Stopped):
            run(recipe, out)
    state = out / "discriminator"
    (state / "state.previous.pt").replace(state / "state.pt")  # as if killed: back to step 10
    run(recipe, out)
    found = events(out / "tensorboard/discriminator", "disc")
    assert [step for step, _ in found] == [5, 10, 15, 20, 25, 30]
    assert [value for _, value in found] == pytest.approx([v for _, v in lines(out, "discriminator", "disc")], rel=1e-5)


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_one_line_with_the_command_before_anything_begins(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    load(tmp_path)
    real = trackers.find_spec
    monkeypatch.setattr(trackers, "find_spec", lambda requested: None if requested == name else real(requested))
    command = ["train", "--recipe", "points.yaml", "--out", "out", "--set", f"train.log=[jsonl, {name}]"]
    for more in ([], ["--dry-run"]):
        assert mmdisco([*command, *more]) == ExitCode.USAGE
        said = capsys.readouterr().err.splitlines()
        assert said == [f"error: train.log: {name} is not installed: pip install {name}"]
    assert not (tmp_path / "out").exists()


def test_both_missing_take_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda requested: None)
    with pytest.raises(Exception, match=r"tensorboard is not .* and wandb is not .*pip install tensorboard wandb$"):
        trackers.require_trackers(("jsonl", "wandb", "tensorboard", "wandb")[::-1])
    trackers.require_trackers(("jsonl",))


def test_a_package_that_lacks_another_one_is_said_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_plugin: Callable[..., None]
) -> None:
    make_plugin("wandb", "import package_that_nobody_has")
    with pytest.raises(UsageError, match=r"train.log: wandb cannot be imported \(.*No module named") as raised:
        run(load(tmp_path, log="[wandb]"), tmp_path / "out")
    assert "\n" not in str(raised.value)


def test_an_unknown_tracker_is_refused_by_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    load(tmp_path)
    assert mmdisco(["train", "--recipe", "points.yaml", "--set", "train.log=[tensorbord]"]) == ExitCode.USAGE
    assert "train.log[0]: unknown value 'tensorbord' (did you mean tensorboard?)" in capsys.readouterr().err


def test_scalars_are_numbers_by_path() -> None:
    assert scalars("a", {"b": 1, "c": {"-1": 0.5}, "d": "x"}) == {"a/b": 1.0, "a/c/-1": 0.5}


def test_wandb_offline_keeps_the_run_and_goes_on_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    out, logged = tmp_path / "out", []
    import wandb

    log = wandb.Run.log

    def noted(self, data, *arguments, **named):  # type: ignore[no-untyped-def]
        logged.append((self.id, self.config["train"]["steps"], dict(data)))
        return log(self, data, *arguments, **named)

    monkeypatch.setattr(wandb.Run, "log", noted)
    run(load(tmp_path, log="[jsonl, wandb]"), out)
    run(load(tmp_path, log="[jsonl, wandb]", steps=40), out)
    assert {run_id for run_id, *_ in logged} == {(out / "wandb-run.txt").read_text().strip()}
    ours = [data for *_, data in logged if "discriminator/disc" in data]
    expected = lines(out, "discriminator", "disc")
    assert [(data["discriminator/step"], data["discriminator/disc"]) for data in ours] == expected
    assert any("discriminator-heldout/gain_by_log_snr/+0" in data for *_, data in logged)
    assert len(list((out / "wandb").glob("offline-run-*"))) == 2


def test_wandb_without_a_login_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    load(tmp_path)
    command = ("mmdisco_cli", "train", "--recipe", "points.yaml", "--out", "out", "--set", "train.log=[wandb]")
    with start(*command, cwd=tmp_path, PYTHONPATH=os.pathsep.join(path for path in sys.path if path)) as process:
        _, said = process.communicate(timeout=600)
    assert process.returncode == ExitCode.USAGE, said
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "WANDB_MODE=offline keeps it here" in error
