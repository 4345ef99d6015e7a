"""The checkpoint before the last, for one that a disk or a power loss has spoilt; and runs that take more steps."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from test_resume import Killed, assert_same_log, assert_same_run, kill_at
from tiny_runs import STAGE, load, run

from mmdisco_cli.errors import DataError
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run.options import TrainOptions
from mmdisco_cli.training.loop import learning_rate
from mmdisco_cli.training.metrics import read_rows
from mmdisco_cli.training.run import train
from mmdisco_cli.weights_file import read_about


def killed(recipe: Recipe, out: Path, step: int, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Train until a kill; return the last checkpoint."""
    with monkeypatch.context() as patched:
        kill_at(STAGE[recipe.name], step, patched)
        with pytest.raises(Killed):
            run(recipe, out)
    return out / STAGE[recipe.name] / "state.pt"


def step_of(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["step"])


def test_the_last_two_checkpoints_are_kept(tmp_path: Path) -> None:
    run(load(tmp_path), tmp_path / "out")
    folder = tmp_path / "out/discriminator"
    assert {path.name: step_of(path) for path in folder.iterdir()} == {"state.pt": 30, "state.previous.pt": 20}


def flipped(whole: bytes) -> bytes:
    """One bit of a weight, which torch itself reads without a word."""
    weight = next(iter(torch.load(io.BytesIO(whole), weights_only=True)["module"].values()))
    place = whole.index(weight.numpy().tobytes())
    return whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "a few bytes": lambda whole: whole[:3],
    "header": lambda whole: whole[:64],
    "half": lambda whole: whole[: len(whole) // 2],
    "directory": lambda whole: whole[:-200],
    "last byte": lambda whole: whole[:-1],
    "zeros": lambda whole: bytes(len(whole)),
    "zeros behind": lambda whole: whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2),
    "a bit": flipped,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_torn_checkpoint_falls_back_to_the_one_before(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, out = load(tmp_path), tmp_path / "out"
    run(recipe, tmp_path / "whole")
    path = killed(recipe, out, 25, monkeypatch)
    before = path.with_name("state.previous.pt")
    assert (step_of(path), step_of(before)) == (20, 10)
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    capsys.readouterr()
    run(recipe, out)
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert warning.startswith(f"warning: {path}: ")
    assert warning.endswith(f"; going on from the checkpoint before it, {before}, at step 10")
    assert_same_run(out, tmp_path / "whole", "points")
    assert_same_log(out, tmp_path / "whole")


def test_a_torn_checkpoint_never_takes_the_place_of_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = load(tmp_path), tmp_path / "out"
    path = killed(recipe, out, 25, monkeypatch)
    path.write_bytes(path.read_bytes()[:-200])
    assert killed(recipe, out, 22, monkeypatch) == path
    assert (step_of(path), step_of(path.with_name("state.previous.pt"))) == (20, 10)


def test_a_kill_between_the_renames_of_a_save_loses_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, out = load(tmp_path), tmp_path / "out"
    run(recipe, tmp_path / "whole")
    path = killed(recipe, out, 25, monkeypatch)
    path.replace(path.with_name("state.previous.pt"))
    run(recipe, out)
    assert_same_run(out, tmp_path / "whole", "points")


def test_two_torn_checkpoints_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, out = load(tmp_path), tmp_path / "out"
    path = killed(recipe, out, 25, monkeypatch)
    for each in path.parent.iterdir():
        each.write_bytes(each.read_bytes()[:500])
    with pytest.raises(DataError, match=r"state\.pt: truncated or damaged .*--fresh") as raised:
        run(recipe, out)
    assert "\n" not in str(raised.value)
    run(recipe, out, fresh=True)


@pytest.mark.parametrize("name", ["points", "frames"])
def test_a_finished_training_takes_more_steps(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On the longer schedule from the step that it had reached; killed on the way, it ends in the same weights."""
    run(load(tmp_path, name), tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    longer = load(tmp_path, name, steps=60)
    capsys.readouterr()
    run(longer, tmp_path / "one")
    said = capsys.readouterr().err
    assert "train.steps raised from 30 to 60: from step 30 on the learning rate follows the schedule of 60" in said
    weights = tmp_path / "one" / f"{longer.train.target}.safetensors"
    assert read_about(weights, longer.train.target)["steps"] == 60
    rows = [row for row in read_rows(tmp_path / "one/metrics.jsonl") if row["stage"] == STAGE[name]]
    assert [row["step"] for row in rows] == list(range(5, 61, 5))
    for row in rows:
        steps = 30 if row["step"] <= 30 else 60
        rates = [learning_rate(step, longer.train, steps) for step in range(row["step"] - 5, row["step"])]
        assert row["learning_rate"] == pytest.approx(sum(rates) / 5, abs=1e-6)
    killed(longer, tmp_path / "two", 45, monkeypatch)
    old = load_file(tmp_path / "two" / weights.name)
    assert any(not torch.equal(x, old[key]) for key, x in load_file(weights).items())
    run(longer, tmp_path / "two")
    assert_same_run(tmp_path / "two", tmp_path / "one", name)
    run(longer, tmp_path / "two")
    assert "training is complete" in capsys.readouterr().err


def test_an_unfinished_training_takes_more_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, longer = tmp_path / "out", load(tmp_path, steps=50)
    killed(load(tmp_path), out, 25, monkeypatch)
    killed(longer, out, 23, monkeypatch)  # before it has saved anything of its own
    run(longer, out)
    rows = [row for row in read_rows(out / "metrics.jsonl") if row["stage"] == "discriminator"]
    assert [row["step"] for row in rows] == list(range(5, 51, 5))
    assert step_of(out / "discriminator/state.pt") == 50


def test_what_cannot_take_more_steps_is_refused(tmp_path: Path) -> None:
    recipe, out = load(tmp_path), tmp_path / "out"
    run(recipe, out)
    with pytest.raises(DataError, match=r"another train\.steps \(which can only be raised\): .*--fresh"):
        run(load(tmp_path, steps=20), out)
    with pytest.raises(DataError, match=r"another train\.steps, train\.learning_rate: "):
        run(load(tmp_path, steps=40, learning_rate=2e-3), out)
    shutil.rmtree(out / "discriminator")
    kept = (out / "discriminator.safetensors").read_bytes()
    with pytest.raises(DataError, match=r"holds no state\.pt to go on from to more train\.steps; .*--fresh"):
        run(load(tmp_path, steps=40), out)
    assert (out / "discriminator.safetensors").read_bytes() == kept
    train(recipe, TrainOptions(out=out))


def test_a_torn_checkpoint_of_a_training_that_takes_more_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    path = killed(load(tmp_path), out, 25, monkeypatch)
    path.write_bytes(path.read_bytes()[:-200])
    run(load(tmp_path, steps=40), out)
    said = capsys.readouterr().err
    assert "train.steps raised from 30 to 40: from step 10 on" in said
    assert "going on from the checkpoint before it" in said
