"""`mmdisco eval` of clips, from a recipe to its files: rows side by side, the same again, and every error in a line."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_models import write_recipe

from mmdisco_cli.app import run as mmdisco
from mmdisco_cli.data.media import read_audio, write_mp4
from mmdisco_cli.errors import DataError, ExitCode
from mmdisco_cli.evaluation import clips
from mmdisco_cli.evaluation.real_clips import RealSet, write_real
from mmdisco_cli.measures.analysis import Analysis
from mmdisco_cli.measures.cache import Cache
from mmdisco_cli.measures.clip_sets import MAY_FAIL, Measuring, measure_clips
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.run.options import EvalOptions
from mmdisco_cli.toys.bounce import protocol as bounce
from mmdisco_cli.toys.bounce.clip_events import event_analysis
from mmdisco_cli.toys.bounce.dataset import Bounce
from mmdisco_cli.toys.bounce.options import BounceOptions

pytestmark = pytest.mark.usefixtures("in_empty_folder")
ROWS = {"real", "independent", "guided"}
FAST = "event_iou,kd_logmel"


def write_videos(folder, count, part="heldout", size=64, start=0):
    """Write real videos of bounce, or of it seen larger, as a folder of anyone's."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    data = Bounce(BounceOptions(), size=size).split(part)
    for index in range(start, start + count):
        media = data.media([index], ("audio", "video"))
        write_mp4(Path(folder) / f"{index:03d}.mp4", media["video"][0], media["audio"][0], 10, 16000)
    return Path(folder)


def evaluated(capsys, *arguments):
    """Run `mmdisco eval` and return its object."""
    assert mmdisco(["eval", "--recipe", "small.yaml", "--json", *arguments]) == ExitCode.OK
    return json.loads(capsys.readouterr().out)


@pytest.fixture
def small(models, in_empty_folder):
    return write_recipe(models, in_empty_folder)


@pytest.mark.slow
def test_bounce_end_to_end(small, capsys):
    found = evaluated(capsys, "--set", "eval.given=true")
    assert (found["recipe"], found["n"], found["protocol"]["name"]) == ("small", 6, "bounce")
    metrics = found["metrics"]
    assert metrics.keys() == set(bounce.METRICS)
    assert metrics["event_iou"].keys() == ROWS | {"gap_closed", "difference"}
    assert metrics["kd_motion"].keys() == ROWS | {"ratio", "difference"}
    assert metrics["event_iou"]["real"]["value"] > 0.9
    assert metrics["event_iou"]["real"]["low"] <= metrics["event_iou"]["real"]["value"]
    assert metrics["kd_logmel"]["independent"]["value"] > metrics["kd_logmel"]["real"]["value"]
    assert len(metrics["accuracy"]["levels"]) == 10
    # A given modality is measured in the video that gave it, so it has all of its events.
    assert metrics["given_video"]["events_seen"] == metrics["events_seen"]["real"]
    assert metrics["given_audio"]["events_heard"] == metrics["events_heard"]["real"]
    out = Path("runs/small/eval")
    assert json.loads((out / "metrics.json").read_text()) == found
    rows = [json.loads(line) for line in (out / "per_clip.jsonl").read_text().splitlines()]
    assert len(rows) == 5 * 6
    iou = [row["iou"] for row in rows if row["row"] == "real"]
    assert sum(iou) / len(iou) == pytest.approx(metrics["event_iou"]["real"]["value"])
    assert (out / "bounce.png").read_bytes()[:4] == b"\x89PNG"
    assert len(list(Path("runs/small/samples").glob("*.mp4"))) == 6


@pytest.mark.slow
def test_again_gives_the_same_and_makes_nothing_anew(small, capsys):
    first = evaluated(capsys, "--metrics", FAST)
    made = sorted(Path("runs").rglob("*.mp4"))
    assert len(made) == 4 * 6
    for path in made:
        os.utime(path, ns=(0, 0))  # so that a write shows, however coarse the times of the file system are
    assert evaluated(capsys, "--metrics", FAST) == first
    assert {path: path.stat().st_mtime_ns for path in Path("runs").rglob("*.mp4")} == dict.fromkeys(made, 0)
    assert first["metrics"].keys() == {"event_iou", "kd_logmel"}
    evaluated(capsys, "--metrics", FAST, "--set", "eval.n=4")
    assert len(list(Path("runs/small/eval/real").glob("*.mp4"))) == 4


def test_the_discriminator_alone_takes_no_samples(small, capsys):
    found = evaluated(capsys, "--metrics", "interaction,accuracy,parameters")
    assert found["metrics"].keys() == {"interaction", "accuracy", "parameters"}
    assert found["metrics"]["interaction"]["value"] > 1e-6
    assert not Path("runs/small/samples").exists()


def test_a_discriminator_that_cannot_see_the_pair_is_warned_of(models, in_empty_folder, capsys):
    write_recipe(models, in_empty_folder, discriminator="additive")
    assert mmdisco(["eval", "--recipe", "small.yaml", "--metrics", "interaction"]) == ExitCode.OK
    assert "warning: the discriminator does not see the pair" in capsys.readouterr().err


def test_samples_found_in_a_folder_are_the_guided_row(small, capsys):
    write_videos("mine", 3)
    found = evaluated(capsys, "--samples", "mine", "--metrics", FAST)
    assert found["n"] == 3
    # What was put there is the very row `real`, but for the size at which it was written.
    assert found["metrics"]["event_iou"]["guided"]["value"] > 0.9
    assert found["metrics"]["event_iou"]["gap_closed"]["value"] == pytest.approx(1, abs=0.1)


def test_a_reference_folder_takes_the_place_of_held_out_clips(small, capsys):
    write_videos("reference", 4, part="train")
    found = evaluated(capsys, "--reference", "reference", "--metrics", FAST, "--set", "eval.n=3")
    assert found["protocol"]["reference"] == "reference"
    assert found["protocol"]["clips"] == {"real": 2, "independent": 3, "guided": 3}


@pytest.mark.slow
def test_clips_end_to_end(models, in_empty_folder, capsys):
    for split in ("train", "test"):
        write_videos(f"clips/{split}", 5, part=split if split == "train" else "heldout")
    (Path("clips/test") / "broken.mp4").write_bytes(b"no video")
    write_recipe(models, in_empty_folder, "clips", "{name: clips, path: clips, max_bad: 0.2}")
    assert mmdisco(["eval", "--recipe", "small.yaml", "--json"]) == ExitCode.OK
    output = capsys.readouterr()
    found = json.loads(output.out)
    assert found["metrics"].keys() == set(clips.METRICS)
    assert found["metrics"]["av_align"].keys() == found["metrics"]["av_align_chance"].keys() == ROWS
    assert found["metrics"]["fd_logmel"]["guided"]["dimension"] == 128
    assert found["n"] == 5
    assert found["protocol"]["clips"] == {"real": 3, "independent": 5, "guided": 5, "reference": 2}
    assert "5 held-out windows, so 5 samples a row instead of 6" in output.err
    assert "warning: skipped test/broken.mp4" in output.err
    assert (Path("runs/small/eval") / "clips.png").is_file()


def error_of(capsys, *arguments):
    capsys.readouterr()
    code = mmdisco(["eval", "--recipe", "small.yaml", *arguments])
    return code, [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]


def test_what_cannot_be_measured_is_said_in_a_line(small, capsys):
    Path("empty").mkdir()
    cases = [
        (["--metrics", "event_iuo"], ExitCode.USAGE, "did you mean event_iou or"),
        (["--samples", "absent"], ExitCode.DATA, "absent: no such folder"),
        (["--samples", "empty"], ExitCode.DATA, "empty: holds no samples"),
        (["--reference", "absent"], ExitCode.DATA, "absent: no such folder"),
        (["--set", "data.name=gaussians"], ExitCode.USAGE, "bounce needs the data set bounce"),
        (["--set", "eval.protocol=clips"], ExitCode.USAGE, "clips needs the data set clips"),
        (["--set", "request.fps=12"], ExitCode.USAGE, "request.fps"),
        (["--set", "sample.weights=absent"], ExitCode.DATA, "no weights 'absent'"),
    ]
    for arguments, code, text in cases:
        found, lines = error_of(capsys, *arguments)
        assert (found, len(lines)) == (code, 1), (arguments, lines)
        assert text in lines[0], (arguments, lines)


def test_samples_made_otherwise_are_not_measured(small, capsys):
    assert mmdisco(["sample", "--recipe", "small.yaml", "--n", "1", "--independent"]) == ExitCode.OK
    code, lines = error_of(capsys, "--set", "sample.steps=4", "--metrics", FAST)
    assert code == ExitCode.USAGE
    assert "runs/small/independent: holds samples made with sample.steps 3 instead of 4" in lines[0]


def test_one_unreadable_sample_is_an_error_and_one_real_clip_in_twenty_is_not(tmp_path, capsys):
    clips = [write_videos(tmp_path / "videos", 1) / "000.mp4"] * 20
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    how = Measuring(Analysis(height=32), Cache(tmp_path / "cache"), event_analysis(2))
    assert len(measure_clips([*clips, broken], how, "real", MAY_FAIL, Ranks()).clips) == 20
    assert "warning: skipped:" in capsys.readouterr().err
    for share, few in ((0.0, clips), (MAY_FAIL, clips[:5])):
        with pytest.raises(DataError, match=r"broken.mp4: .*\n.* of .* clips cannot be used"):
            measure_clips([*few, broken], how, "guided", share, Ranks())


def test_real_videos_of_other_data_are_written_again(tmp_path):
    data = Bounce(BounceOptions()).split("heldout")

    def write(dataset, count):
        return write_real(RealSet(dataset, range(count)), tmp_path / "real", 10, 1, "real")

    def sound(path):
        return read_audio(path, 0, 1.6, 16000)

    first = write(data, 2)
    before = sound(first[0])
    write(replace(data, part="train"), 2)
    assert not torch.equal(sound(first[0]), before)
    write(data, 1)
    assert torch.equal(sound(first[0]), before)
    assert not first[1].exists()


def test_defaults_leave_out_what_nobody_asked_for(small):
    recipe = recipes.load("small.yaml")
    assert not {"given_video", "given_audio"} & bounce.chosen_metrics(recipe, EvalOptions())
    without = replace(recipe, sample=replace(recipe.sample, weights=None))
    assert "interaction" not in bounce.chosen_metrics(without, EvalOptions(samples=Path("mine")))
    assert bounce.chosen_metrics(recipe, EvalOptions(metrics=("given_video",))) == {"given_video"}
