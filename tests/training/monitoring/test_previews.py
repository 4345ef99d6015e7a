"""Previews: what they are, that they go on after a kill, and that what goes wrong with them ends no training."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import captioned_toys
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import load, run

from mmdisco_cli.app import run as mmdisco
from mmdisco_cli.errors import DataError, ExitCode, Stopped
from mmdisco_cli.run.signals import SignalFlag
from mmdisco_cli.training.metrics import MetricsLog, read_rows
from mmdisco_cli.training.monitoring import previews
from mmdisco_cli.training.monitoring.preview_rows import LIST, forget_previews_after, read_previews

SHOWN = {"preview_every": 10, "previews": 2, "validate_every": 10}


class Killed(BaseException):
    """Stands for a kill between two checkpoints."""


def files(out: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {str(path.relative_to(out)): load_file(path) for path in sorted((out / "previews").rglob("*.safetensors"))}


def test_a_preview_is_what_sample_makes_of_the_weights_of_that_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    run(load(tmp_path, **SHOWN), out)
    rows = read_previews(out / "previews")
    assert [(row["step"], row["index"]) for row in rows] == [(step, k) for step in (10, 20, 30) for k in (0, 1)]
    assert rows[-1]["files"] == {"x": "previews/0000030/1.safetensors", "y": "previews/0000030/1.safetensors"}
    command = ["sample", "--recipe", "points.yaml", "--n", "2", "--seed", "0", "--out", "samples"]
    assert mmdisco([*command, "--set", "sample.weights=out/discriminator.safetensors"]) == ExitCode.OK
    for index in (0, 1):
        ours = load_file(out / f"previews/0000030/{index}.safetensors")
        theirs = load_file(tmp_path / f"samples/0000{index}-seed0.safetensors")
        torch.testing.assert_close(ours, theirs)


def test_after_a_kill_the_list_goes_on_and_names_nothing_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load(tmp_path, **{**SHOWN, "preview_every": 4})
    run(recipe, tmp_path / "whole")
    write = MetricsLog.write

    def fatal(self: MetricsLog, now: int, steps: int, figures: Mapping[str, float]) -> object:
        row = write(self, now, steps, figures)
        if now == 19:
            raise Killed
        return row

    with monkeypatch.context() as patched:
        patched.setattr(MetricsLog, "write", fatal)
        with pytest.raises(Killed):
            run(recipe, tmp_path / "killed")
    assert [row["step"] for row in read_previews(tmp_path / "killed/previews")][-1] == 16
    run(recipe, tmp_path / "killed")
    for read in (lambda out: read_previews(out / "previews"), lambda out: read_rows(out / "metrics.jsonl")):
        assert read(tmp_path / "killed") == read(tmp_path / "whole")
    torch.testing.assert_close(files(tmp_path / "killed"), files(tmp_path / "whole"), rtol=0, atol=0)
    lines = (tmp_path / "killed/previews" / LIST).read_text().splitlines()
    assert len(lines) == len(read_previews(tmp_path / "killed/previews"))
    page = (tmp_path / "killed/progress.html").read_text()
    assert all(f"step {step}</figcaption>" in page for step in (4, 16, 20, 30))
    run(load(tmp_path), tmp_path / "killed", fresh=True)
    assert not (tmp_path / "killed/previews").exists()


def test_a_signal_ends_a_preview_at_once_and_the_state_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, out = load(tmp_path, **SHOWN), tmp_path / "out"
    drawing = previews.draw_batch

    def signalled(job, batch, on_step):  # type: ignore[no-untyped-def]
        job_context[0].stop.name = "SIGTERM"
        return drawing(job, batch, on_step)

    job_context: list[object] = []
    made = previews.previews_of

    def noted(*arguments):  # type: ignore[no-untyped-def]
        job_context.append(arguments[3])
        return made(*arguments)

    monkeypatch.setattr(previews, "draw_batch", signalled)
    monkeypatch.setattr("mmdisco_cli.training.discriminator.previews_of", noted)
    with pytest.raises(Stopped, match="at step 10 of 30, state saved"):
        run(recipe, out)
    assert read_previews(out / "previews") == []
    assert not (out / "previews/0000010").exists()
    assert SignalFlag().name == ""


@pytest.mark.parametrize("error", [DataError("disk full\nmore"), torch.OutOfMemoryError("CUDA out of memory")])
def test_a_preview_that_fails_is_said_in_one_line_and_ends_nothing(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*arguments: object) -> None:
        raise error

    plain = run(load(tmp_path), tmp_path / "plain")
    monkeypatch.setattr(previews, "draw_batch", fails)
    capsys.readouterr()
    looked_at = run(load(tmp_path, **SHOWN), tmp_path / "out")
    said = [line for line in capsys.readouterr().err.splitlines() if "no preview" in line]
    assert [line.split(": ")[:3] for line in said] == [["warning", f"step {k}", "no preview"] for k in (10, 20, 30)]
    torch.testing.assert_close(looked_at, plain, rtol=0, atol=0)


def test_a_fault_of_ours_in_a_preview_is_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "draw_batch", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(load(tmp_path, **SHOWN), tmp_path / "out")


def test_models_that_cannot_take_the_steps_of_sampling_train_without_previews(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise DataError("sample.steps: too many")

    monkeypatch.setattr(previews, "plan_job", refuse)
    run(load(tmp_path, **SHOWN), tmp_path / "out")
    assert "warning: no previews: sample.steps: too many" in capsys.readouterr().err


def test_previews_have_the_captions_of_the_first_held_out_clips_at_every_step(tmp_path: Path) -> None:
    recipe = captioned_toys.load(
        tmp_path, "data.unique=true", steps=20, batch_size=8, bank=64, preview_every=10, previews=2
    )
    seen = captioned_toys.Worded.seen
    seen.clear()
    run(recipe, tmp_path / "out")
    rows = read_previews(tmp_path / "out/previews")
    captions = captioned_toys.Points(recipe.data.options).split("heldout").captions((0, 1), ("x",))["x"]
    assert captions == ["same 0", "opposite 1"]
    assert [(row["step"], row["prompt"]) for row in rows] == [(step, text) for step in (10, 20) for text in captions]
    # Batches of training have eight clips and those that are measured more: only previews have two, with and without
    # their words at once.
    words = torch.tensor([captioned_toys.WORDS[text.split(" ")[0]] for text in captions])
    assert (
        sum(len(one) == 4 and torch.equal(one[-2:], words) for one in seen)
        == 2 * len(recipe.backbones) * recipe.sample.steps
    )
    page = (tmp_path / "out/progress.html").read_text()
    found = re.findall(r'<h3>Noise (\d)</h3><p class="prompt">(.*?)</p>', page)
    assert found == [("0", captions[0]), ("1", captions[1])]
    drawn = [load_file(tmp_path / f"out/previews/00000{step}/{k}.safetensors") for step in (10, 20) for k in (0, 1)]
    assert len({float(one["x"]) for one in drawn}) == 4


def test_torn_and_foreign_lines_of_the_list_are_left_out(tmp_path: Path) -> None:
    row = {"step": 10, "index": 0, "prompt": "", "files": {"x": "a"}, "kinds": {"x": "vector"}}
    later = {**row, "step": 20}
    lines = [row, [], {"step": 1}, {**row, "files": "a"}, {**row, "prompt": "again"}, later]
    (tmp_path / LIST).write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 3')
    assert [(r["step"], r["prompt"]) for r in read_previews(tmp_path)] == [(10, "again"), (20, "")]
    forget_previews_after(tmp_path, 10)
    assert [r["step"] for r in read_previews(tmp_path)] == [10]
    assert read_previews(tmp_path / "nowhere") == []
