"""Whatever ends a training, the same command goes on and ends in the same weights, bit for bit."""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import STAGE, load, run, start, weights

from mmdisco_cli.errors import ExitCode, Stopped
from mmdisco_cli.run.signals import SignalFlag
from mmdisco_cli.training.loop import Context
from mmdisco_cli.training.metrics import MetricsLog, read_rows

DYING = """
import os, signal, sys
from mmdisco_cli.app import run
from mmdisco_cli.training.metrics import MetricsLog

write = MetricsLog.write

def fatal(self, now, steps, figures):
    write(self, now, steps, figures)
    if (self._stage, now) == (os.environ["DIES_IN"], 23):
        os.kill(os.getpid(), signal.SIGKILL)

MetricsLog.write = fatal
sys.exit(run(sys.argv[1:]))
"""
"""A command that kills itself between two checkpoints, after its step 23 and the line of metrics after step 20."""


class Killed(BaseException):
    """Stands for a kill between two checkpoints: nothing is saved on the way out."""


def kill_at(stage: str, step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    write = MetricsLog.write

    def fatal(self: MetricsLog, now: int, steps: int, figures: Mapping[str, float]) -> None:
        write(self, now, steps, figures)
        if (self._stage, now) == (stage, step):
            raise Killed

    monkeypatch.setattr(MetricsLog, "write", fatal)


def assert_same_run(ours: Path, theirs: Path, name: str) -> None:
    torch.testing.assert_close(weights(ours, name), weights(theirs, name), rtol=0, atol=0)
    names = sorted(path.name for path in theirs.glob("*.safetensors"))
    assert "best.safetensors" in names
    for file in names:
        torch.testing.assert_close(load_file(ours / file), load_file(theirs / file), rtol=0, atol=0)


def assert_same_log(ours: Path, theirs: Path) -> None:
    """Whatever was taken twice, every line is the mean of the same steps."""
    assert read_rows(ours / "metrics.jsonl") == read_rows(theirs / "metrics.jsonl")


@pytest.mark.parametrize(
    ("name", "stage", "step"),
    [
        ("points", "discriminator", 3),
        ("points", "discriminator", 17),
        ("frames", "codec", 2),
        ("frames", "denoiser", 25),
    ],
)
def test_killed_at_any_step(name: str, stage: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load(tmp_path, name)
    run(recipe, tmp_path / "whole")
    with monkeypatch.context() as patched:
        kill_at(stage, step, patched)
        with pytest.raises(Killed):
            run(recipe, tmp_path / "killed")
    run(recipe, tmp_path / "killed")
    assert_same_run(tmp_path / "killed", tmp_path / "whole", name)
    assert_same_log(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["points", "frames"])
def test_kill_9(name: str, tmp_path: Path) -> None:
    recipe = load(tmp_path, name, steps=300)
    out = tmp_path / "killed"
    (tmp_path / "dying.py").write_text(DYING)
    command = ("dying", "train", "--recipe", f"{name}.yaml", "--set", "train.steps=300", "--out", "killed")
    with start(*command, cwd=tmp_path, DIES_IN=STAGE[name]) as process:
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert _step(out, STAGE[name]) == 20
    run(recipe, out)
    run(recipe, tmp_path / "whole")
    assert_same_run(out, tmp_path / "whole", name)


def _step(out: Path, stage: str) -> int:
    return max((row["step"] for row in read_rows(out / "metrics.jsonl") if row["stage"] == stage), default=0)


@pytest.mark.slow
def test_sigterm_saves_and_exits_with_75(tmp_path: Path) -> None:
    recipe = load(tmp_path, steps=3000)
    command = ("mmdisco_cli", "train", "--recipe", "points.yaml", "--set", "train.steps=3000", "--out", "stopped")
    with start(*command, cwd=tmp_path) as process:
        while process.poll() is None and _step(tmp_path / "stopped", "discriminator") < 20:
            time.sleep(0.002)
        process.terminate()
        output, messages = process.communicate(timeout=600)
    assert process.returncode == ExitCode.STOPPED
    assert output == ""
    stopped = _state_step(tmp_path / "stopped")
    assert f"stopped by SIGTERM at step {stopped} of 3000, state saved; run the same command again" in messages
    assert recipe.train.steps > stopped >= 20


def _state_step(out: Path) -> int:
    return int(torch.load(out / "discriminator" / "state.pt", weights_only=True)["step"])


@pytest.mark.parametrize("step", [1, 13, 15])
def test_a_stop_at_any_step_goes_on_the_same(step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load(tmp_path)
    run(recipe, tmp_path / "whole")
    calls = iter(range(1, 100))
    with monkeypatch.context() as patched:
        patched.setattr(Context, "must_stop", lambda self: next(calls) == step)
        with pytest.raises(Stopped, match=f"at step {step} of 30"):
            run(recipe, tmp_path / "stopped")
    assert _state_step(tmp_path / "stopped") == step
    run(recipe, tmp_path / "stopped")
    assert_same_run(tmp_path / "stopped", tmp_path / "whole", "points")
    assert_same_log(tmp_path / "stopped", tmp_path / "whole")


def test_a_stop_while_encoding_keeps_the_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmdisco_cli.cache.layout.MOST_ROWS", 2)
    recipe = load(tmp_path, "frames")
    with monkeypatch.context() as patched:
        patched.setattr(SignalFlag, "received", property(lambda self: True))
        patched.setattr(Context, "must_stop", lambda self: (tmp_path / "out/bank").exists())
        with pytest.raises(Stopped, match="while encoding video"):
            run(recipe, tmp_path / "out")
    made = list((tmp_path / "out/bank").rglob("*.safetensors"))
    assert len(made) == 1
    os.utime(made[0], ns=(0, 0))
    run(recipe, tmp_path / "out")
    assert len(list((tmp_path / "out/bank").rglob("*.safetensors"))) == 3
    assert made[0].stat().st_mtime_ns == 0
