"""`mmdisco sample` from its options to its files: the same set however it is made, and nothing half-written."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import wave
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import av
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_models import REQUEST, SOUND, save_base

from mmdisco_cli.app import run as mmdisco
from mmdisco_cli.commands.gallery import write_page
from mmdisco_cli.data.manifest import complete_rows
from mmdisco_cli.data.media import probe, read_video
from mmdisco_cli.errors import DataError, ExitCode, Stopped, UsageError
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.run.options import SampleOptions
from mmdisco_cli.run.signals import STOPPING
from mmdisco_cli.sampling import run
from mmdisco_cli.sampling.job import plan_job
from mmdisco_cli.weights_file import any_about, save_weights

pytestmark = pytest.mark.usefixtures("in_empty_folder", "hangup_counts")
Latents = dict[str, dict[str, torch.Tensor]]
DYING = """
import os, signal, sys
from mmdisco_cli.app import run as mmdisco
from mmdisco_cli.sampling import run

append, rows = run.append_row, []

def fatal(folder, row):
    append(folder, row)
    rows.append(row)
    if len(rows) == int(os.environ["DIES_AFTER"]):
        os.kill(os.getpid(), signal.SIGKILL)

run.append_row = fatal
sys.exit(mmdisco(sys.argv[1:]))
"""
"""A command that kills itself once it has written so many lines of its manifest."""


def make(tiny: Path, out: str, *settings: str, **options: Any) -> list[dict[str, Any]]:
    """Make samples with their latents kept; return the lines reported."""
    recipe = recipes.load(str(tiny), ["sample.keep_latents=true", *settings])
    rows: list[dict[str, Any]] = []
    job = plan_job(recipe, SampleOptions(out=Path(out), **options))
    write_page(job, force=bool(run.make_samples(job, rows.append)))
    return rows


def latents(folder: str) -> Latents:
    return {path.name: load_file(path) for path in sorted(Path(folder).glob("*.latents.safetensors"))}


def assert_same_set(found: Latents, expected: Latents, within: float = 1e-3) -> None:
    """Expect latents within what is promised whatever the batch, or of equal bits where `within` is 0."""
    assert found.keys() == expected.keys()
    for name, state in expected.items():
        assert found[name].keys() == state.keys() == {"audio", "video"}
        for m, x in state.items():
            torch.testing.assert_close(found[name][m], x, atol=within, rtol=0)


def aged(folder: str) -> list[Path]:
    """Return the videos of a folder, each made to look as old as can be."""
    videos = sorted(Path(folder).glob("*.mp4"))
    for video in videos:
        os.utime(video, ns=(0, 0))
    return videos


def written_since(videos: list[Path]) -> bool:
    """Return whether any of what was aged has been written again, however coarse the times of the file system are."""
    return any(video.stat().st_mtime_ns for video in videos)


def leftovers(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".part")]


def test_one_go_shards_ranks_and_other_batches_make_the_same_set(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = make(tiny, "whole", n=8)
    assert [row["path"] for row in rows] == [f"{i:05d}-seed0.mp4" for i in range(8)]
    whole = latents("whole")
    make(tiny, "batches", n=8, batch_size=3)
    assert_same_set(latents("batches"), whole)
    for index in (2, 0, 1):
        make(tiny, "shards", n=8, shard=(index, 3))
    assert_same_set(latents("shards"), whole)
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        make(tiny, "ranks", n=8)
    assert_same_set(latents("ranks"), whole)
    for folder in ("shards", "ranks"):
        assert [row["index"] for row in complete_rows(Path(folder))] == list(range(8))
        assert (Path(folder) / "index.html").read_text().count("<article") == 8


@pytest.mark.slow
@pytest.mark.parametrize("rows", [3, 4])
def test_after_a_kill_the_same_command_makes_the_same_set(tiny: Path, rows: int) -> None:
    arguments = ["sample", "--recipe", str(tiny), "--n", "8", "--batch-size", "2", "--set", "sample.keep_latents=true"]
    command = [sys.executable, "-c", DYING, *arguments, "--out", "killed"]
    environment = {**os.environ, "PYTHONPATH": str(Path(run.__file__).parents[2]), "DIES_AFTER": str(rows)}
    assert subprocess.run(command, env=environment, capture_output=True).returncode == -signal.SIGKILL
    made = aged("killed")
    assert len(made) == rows
    make(tiny, "killed", n=8, batch_size=2)
    make(tiny, "undisturbed", n=8, batch_size=2)
    # Killed between two batches it goes on in the same ones.
    assert_same_set(latents("killed"), latents("undisturbed"), within=1e-3 if rows % 2 else 0)
    assert len(complete_rows(Path("killed"))) == 8
    assert not written_since(made)


def test_what_is_complete_is_kept_and_reported(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tiny, "out", n=2)
    before = aged("out")
    rows = make(tiny, "out", n=3)
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert not written_since(before)
    assert "2 of 3 samples are there already" in capsys.readouterr().err


def test_a_lost_file_and_a_torn_line_are_made_again(tiny: Path) -> None:
    make(tiny, "out", n=3)
    before = latents("out")
    Path("out/00001-seed0.mp4").unlink()
    manifest = Path("out/manifest.jsonl")
    manifest.write_bytes(manifest.read_bytes()[:-20])
    assert [row["index"] for row in complete_rows(Path("out"))] == [0]
    make(tiny, "out", n=3)
    assert [row["index"] for row in complete_rows(Path("out"))] == [0, 1, 2]
    assert_same_set(latents("out"), before)


def test_latents_asked_for_later_are_made(tiny: Path) -> None:
    make(tiny, "out", "sample.keep_latents=false", n=2)
    assert latents("out") == {}
    make(tiny, "out", n=2)
    assert len(latents("out")) == 2


def test_another_seed_stands_beside(tiny: Path) -> None:
    make(tiny, "out", n=1)
    make(tiny, "out", n=1, seed=4)
    first, second = latents("out").values()
    assert not torch.equal(first["audio"], second["audio"])


def test_settings_that_differ_are_named_and_overwritten_only_on_request(tiny: Path) -> None:
    make(tiny, "out", n=2)
    before = latents("out")
    with pytest.raises(UsageError, match=r"steps 6 instead of 5, sample.scale 1 instead of 2 ") as raised:
        make(tiny, "out", "sample.steps=5", "sample.scale=2", n=2)
    assert str(raised.value).startswith("out: holds samples made with")
    assert "--overwrite" in str(raised.value)
    assert_same_set(latents("out"), before)
    with pytest.raises(UsageError, match="made with independent false instead of true"):
        make(tiny, "out", n=2, independent=True)
    make(tiny, "out", "sample.steps=5", n=1, overwrite=True)
    assert [row["index"] for row in complete_rows(Path("out"))] == [0]
    after, name = latents("out"), "00000-seed0.latents.safetensors"
    assert not torch.equal(after[name]["audio"], before[name]["audio"])
    make(tiny, "out", "sample.steps=5", n=2)
    assert [row["index"] for row in complete_rows(Path("out"))] == [0, 1]


def test_a_clip_has_video_and_audio_of_equal_length(tiny: Path) -> None:
    make(tiny, "out", "sample.scale=3", n=1)
    info = probe("out/00000-seed0.mp4")
    assert (info.height, info.width) == (96, 96)
    assert info.video is not None
    assert info.audio is not None
    assert info.video.stop - info.video.start == info.audio.stop - info.audio.start == pytest.approx(0.4)


def test_latents_are_float32_and_say_what_they_are(tiny: Path) -> None:
    make(tiny, "out", n=1, prompts=("a ball",))
    with safe_open("out/00000-seed0.latents.safetensors", framework="pt") as file:
        metadata = file.metadata()
        assert {file.get_tensor(m).dtype for m in ("audio", "video")} == {torch.float32}
        assert file.get_tensor("video").shape == (2, 4, 2, 2)
    about = json.loads(metadata["mmdisco"])
    assert metadata.keys() == {"mmdisco"}
    stored = {"kind": "sample", "index": "0", "seed": "0", "prompt": "a ball", "recipe": "tiny"}
    assert about.items() >= stored.items()


def test_every_file_of_a_sample_is_the_same_bytes_again_and_readable_as_any_new_file(tiny: Path) -> None:
    """Made at one go or gone on with: what fixes the bits is the samples of a batch."""
    for folder, numbers in (("one", (4,)), ("two", (4,)), ("three", (2, 4))):
        for n in numbers:
            make(tiny, folder, n=n, prompts=("a ball",), batch_size=2)
    files = sorted(path.name for path in Path("one").glob("0*"))
    assert len(files) == 8
    for again in ("two", "three"):
        assert [Path("one", name).read_bytes() for name in files] == [Path(again, name).read_bytes() for name in files]
    Path("any").touch()
    assert {Path("one", name).stat().st_mode for name in files} == {Path("any").stat().st_mode}


def test_a_sample_is_no_weights_file(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tiny, "out", n=1)
    weights = "sample.weights=out/00000-seed0.latents.safetensors"
    assert mmdisco(["sample", "--recipe", str(tiny), "--n", "1", "--set", weights]) == ExitCode.DATA
    assert "holds a sample, not a discriminator" in capsys.readouterr().err


def _huge(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: x.float() * 1e30 for name, x in tensors.items()}


@pytest.mark.parametrize("alone", [True, False])
def test_a_sample_that_is_not_finite_is_refused_by_its_number(tiny: Path, alone: bool) -> None:
    """A clip could not be written; tensors could, and would pass for good ones."""
    good = Path(tiny).with_name("audio.safetensors")
    about = any_about(good)
    # Finite themselves, or they would not be loaded; what they make is not.
    save_weights(Path("huge.safetensors"), _huge(load_file(good)), about, exact=True)
    recipe = recipes.load(str(tiny), [f"backbones.audio.weights={Path('huge.safetensors').absolute()}"])
    backbones = {"audio": recipe.backbones["audio"]} if alone else recipe.backbones
    recipe = replace(recipe, backbones=backbones, sample=replace(recipe.sample, weights=None))
    job = plan_job(recipe, SampleOptions(n=2, shard=(1, 2), out=Path("out"), independent=True))
    with pytest.raises(DataError, match="sample 1 is not written: the audio media holds values that are not finite"):
        run.make_samples(job)
    assert [path.name for path in Path("out").iterdir()] == ["settings.json"]


def test_names_that_are_no_utf_8_are_like_any_other(tiny: Path) -> None:
    out = os.fsdecode(b"\xff out")
    make(tiny, out, n=1)
    assert 'src="00000-seed0.mp4"' in Path(out, "index.html").read_text(encoding="utf-8")
    given = {"video": Path(out, os.fsdecode(b"\xfe.mp4"))}
    os.replace(Path(out, "00000-seed0.mp4"), given["video"])
    rows = make(tiny, "given", n=1, given=given)
    assert complete_rows(Path("given")) == rows
    assert rows[0]["given"] == {"video": str(given["video"])}


def test_a_gallery_of_independent_samples_alone_says_nothing_of_guided_ones(tiny: Path) -> None:
    assert mmdisco(["sample", "--recipe", str(tiny), "--n", "1", "--independent"]) == ExitCode.OK
    control = Path("runs/tiny/independent/index.html").read_text()
    assert "../" not in control
    body = re.sub(r"<(style|script)>.*?</\1>", "", control, flags=re.DOTALL)
    assert "row-independent" in body
    assert "guided" not in body
    assert 'id="compare"' not in body


@pytest.mark.parametrize(
    "folders", [("runs/tiny/samples", "runs/tiny/independent"), ("mine", "its control"), ("a", "b")]
)
@pytest.mark.parametrize("guided_first", [True, False])
def test_guided_and_independent_stand_beside_each_other_whichever_was_made_first(
    tiny: Path, folders: tuple[str, str], guided_first: bool
) -> None:
    arguments = ["sample", "--recipe", str(tiny), "--n", "2"]
    runs = [[*arguments, "--out", folders[0]], [*arguments, "--independent", "--out", folders[1]]]
    for run_arguments in runs if guided_first else reversed(runs):
        assert mmdisco(run_arguments) == ExitCode.OK
    for folder, other in (folders, reversed(folders)):
        page = Path(folder, "index.html").read_text()
        assert page.count(f'src="../{quote(Path(other).name)}/0000') == 2
        assert page.count("same noise") >= 2
        assert 'id="compare"' in page
    rows = [re.findall(r'<figure class="row-(\w+)">', Path(f, "index.html").read_text()) for f in folders]
    assert rows == [["guided", "independent"] * 2, ["independent", "guided"] * 2]


def test_independent_has_a_folder_of_its_own(tiny: Path) -> None:
    arguments = ["sample", "--recipe", str(tiny), "--n", "2"]
    assert mmdisco([*arguments, "--independent"]) == ExitCode.OK
    assert mmdisco(arguments) == ExitCode.OK
    guided, independent = (complete_rows(Path("runs/tiny") / name) for name in ("samples", "independent"))
    assert [row["guided"] for row in guided] == [True, True]
    assert [row["guided"] for row in independent] == [False, False]
    assert all(isinstance(row["logit"], float) for row in guided + independent)


def test_the_gallery_is_written_again_only_for_something_new(tiny: Path) -> None:
    folder = Path("runs/tiny/samples")

    def sample(*options: str) -> str:
        assert mmdisco(["sample", "--recipe", str(tiny), "--n", "1", *options]) == ExitCode.OK
        return (folder / "index.html").read_text()

    def leave() -> None:
        os.utime(folder / "manifest.jsonl", ns=(0, 0))  # older than the page, however coarse the file system's times
        (folder / "index.html").write_text("left")

    assert "<article" in sample()
    leave()
    assert sample() == "left"
    sample("--independent")
    assert sample() != "left"
    leave()
    assert sample("--seed", "1") != "left"


@pytest.mark.parametrize("batch", ["1", "2", "3"])
def test_progress_ends_when_the_last_sample_is_there(
    tiny: Path, capsys: pytest.CaptureFixture[str], batch: str
) -> None:
    arguments = ["sample", "--recipe", str(tiny), "--n", "3", "--batch-size", batch]
    assert mmdisco([*arguments, "--n", "1"]) == ExitCode.OK
    capsys.readouterr()
    assert mmdisco(arguments) == ExitCode.OK
    shown = [line for line in capsys.readouterr().err.splitlines() if line.startswith("sampling ")]
    assert re.match(r"sampling (\d+)/\1 \(100%\)  samples 2  .*  took \d+:\d\d$", shown[-1])
    assert sum("(100%)" in line for line in shown) == 1
    capsys.readouterr()
    assert mmdisco(arguments) == ExitCode.OK
    assert "sampling" not in capsys.readouterr().err


def test_the_files_say_which_samples_nothing_guided(tiny: Path) -> None:
    arguments = ["sample", "--recipe", str(tiny), "--n", "1"]
    assert mmdisco([*arguments, "--independent"]) == ExitCode.OK
    assert mmdisco(arguments) == ExitCode.OK
    for folder, title, guided in (("samples", "tiny 0", "yes"), ("independent", "tiny 0, independent", "no")):
        with av.open(str(Path("runs/tiny", folder, "00000-seed0.mp4"))) as container:
            assert container.metadata["title"] == title
            assert json.loads(container.metadata["comment"])["guided"] == guided


def test_independent_samples_of_another_recipe_are_not_shown_beside(tiny: Path) -> None:
    arguments = ["sample", "--recipe", str(tiny), "--n", "1"]
    assert mmdisco([*arguments, "--independent", "--set", "sample.steps=3"]) == ExitCode.OK
    assert mmdisco(arguments) == ExitCode.OK
    assert "../independent" not in Path("runs/tiny/samples/index.html").read_text()
    assert "../samples" not in Path("runs/tiny/independent/index.html").read_text()


def test_what_lies_beside_and_is_no_run_is_left_alone(tiny: Path) -> None:
    for name, text in (("damaged", "{"), ("other", '{"independent": true}'), ("list", "[]")):
        Path(name).mkdir()
        Path(name, "settings.json").write_text(text)
    make(tiny, "out", n=1)
    assert "<article" in Path("out", "index.html").read_text()
    assert sorted(path.name for path in Path("damaged").iterdir()) == ["settings.json"]


def test_independent_needs_no_discriminator_and_says_that_logits_are_missing(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sample", "--recipe", str(tiny), "--n", "1", "--set", "sample.weights=absent.safetensors"]
    assert mmdisco(arguments) == ExitCode.DATA
    capsys.readouterr()
    assert mmdisco([*arguments, "--independent", "--json"]) == ExitCode.OK
    captured = capsys.readouterr()
    assert json.loads(captured.out)["logit"] is None
    assert "note: no logits: no weights 'absent.safetensors'" in captured.err


@pytest.mark.parametrize(
    ("setting", "named"), [("coupling=logsnr", "logsnr"), ("coupling_shift={audio: -1}", "index, audio -1")]
)
def test_independent_needs_no_discriminator_that_fits(
    setting: str, named: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sample", "--recipe", str(tiny), "--n", "1", "--set", setting]
    assert mmdisco(arguments) == ExitCode.DATA
    capsys.readouterr()
    assert mmdisco([*arguments, "--independent", "--json"]) == ExitCode.OK
    captured = capsys.readouterr()
    assert json.loads(captured.out)["logit"] is None
    assert f"trained with coupling index, but the recipe has {named}" in captured.err


def test_a_dry_run_downloads_nothing(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMDISCO_DOWNLOAD", "")  # so that it is taken away again
    arguments = ["sample", "--recipe", str(tiny), "--n", "1", "--download"]
    assert mmdisco([*arguments, "--dry-run"]) == ExitCode.OK
    assert not os.environ["MMDISCO_DOWNLOAD"]
    assert mmdisco(arguments) == ExitCode.OK
    assert os.environ["MMDISCO_DOWNLOAD"] == "1"


def test_given_video_is_written_as_it_is_and_the_sound_is_made(tiny: Path) -> None:
    make(tiny, "source", "sample.scale=2", n=3)
    Path("source/.hidden.mp4").write_bytes(b"")
    rows = make(tiny, "given", "sample.scale=2", n=4, given={"video": Path("source")})
    assert [Path(row["given"]["video"]).name for row in rows] == [f"{i % 3:05d}-seed0.mp4" for i in range(4)]
    for index in range(4):
        found, real = (
            read_video(path, 0, 4, 10, 32, 32)
            for path in (f"given/{index:05d}-seed0.mp4", f"source/{index % 3:05d}-seed0.mp4")
        )
        assert float((found - real).square().mean()) < 1e-3
    kept = latents("given")
    # The same video under other noise: its latent is the same, the audio is not.
    first, last = kept["00000-seed0.latents.safetensors"], kept["00003-seed0.latents.safetensors"]
    torch.testing.assert_close(first["video"], last["video"], atol=1e-5, rtol=0)
    assert float((first["audio"] - last["audio"]).abs().max()) > 1e-2


def test_given_sound_has_a_folder_of_its_own(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(tiny, "source", n=1)
    given = ["--given", "audio=source/00000-seed0.mp4"]
    assert mmdisco(["sample", "--recipe", str(tiny), "--n", "1", *given]) == ExitCode.OK
    assert capsys.readouterr().out == "runs/tiny/given-audio/00000-seed0.mp4\n"


def test_settings_for_a_given_modality_hold_only_beside_one(tiny: Path) -> None:
    make(tiny, "source", n=1)
    given = {"audio": Path("source/00000-seed0.mp4")}
    special = ("sample.given={guidance: {video: 5.0}, joint_steps: {video: 3, audio: 5}}",)
    make(tiny, "alike", "sample.guidance.video=5.0", "sample.joint_steps=3", n=1, given=given)
    make(tiny, "special", *special, n=1, given=given)
    assert_same_set(latents("special"), latents("alike"))
    make(tiny, "joint", *special, n=1)
    assert_same_set(latents("joint"), latents("source"))


def test_given_media_that_change_are_noticed(tiny: Path) -> None:
    make(tiny, "source", n=2)
    make(tiny, "out", n=1, given={"video": Path("source/00000-seed0.mp4")})
    os.replace("source/00001-seed0.mp4", "source/00000-seed0.mp4")
    with pytest.raises(UsageError, match=r"made with given\.video"):
        make(tiny, "out", n=1, given={"video": Path("source/00000-seed0.mp4")})


@pytest.mark.parametrize(
    ("given", "said", "code"),
    [
        ("vidoe=x.mp4", "unknown modality (did you mean video?)", ExitCode.USAGE),
        ("video=absent.mp4", "absent.mp4: no such file or folder", ExitCode.DATA),
        ("video=empty", "empty: no file ends in .mp4", ExitCode.DATA),
        ("video=broken.mp4", "broken.mp4: corrupt", ExitCode.DATA),
    ],
)
def test_what_cannot_be_given_is_said(
    tiny: Path, capsys: pytest.CaptureFixture[str], given: str, said: str, code: ExitCode
) -> None:
    Path("empty").mkdir()
    Path("broken.mp4").write_bytes(b"nonsense")
    assert mmdisco(["sample", "--recipe", str(tiny), "--n", "1", "--given", given]) == code
    assert said in capsys.readouterr().err


def test_giving_everything_leaves_nothing(tiny: Path) -> None:
    make(tiny, "source", n=1)
    with pytest.raises(UsageError, match="leaves nothing to sample"):
        make(tiny, "out", n=1, given={m: Path("source") for m in ("audio", "video")})


def test_dry_run_says_the_plan_and_writes_nothing(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sample", "--recipe", str(tiny), "--n", "5", "--shard", "1/2", "--dry-run"]
    assert mmdisco(arguments) == ExitCode.OK
    out = capsys.readouterr().out
    for said in ("2 samples", "runs/tiny/samples", "1 x 6400 at 16000 Hz", "6 steps", "audio 2, video 3", "parameters"):
        assert said in out
    assert mmdisco([*arguments, "--json"]) == ExitCode.OK
    plan = json.loads(capsys.readouterr().out)
    assert plan["samples"] == 2
    assert plan["modalities"]["video"]["media"] == [3, 4, 32, 32]
    assert list(Path().iterdir()) == []


def test_modalities_made_anew_are_planned_and_fix_the_samples(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = plan_job(recipes.load(str(tiny)), SampleOptions(n=1)).assembly.discriminator
    assert loaded is not None
    knows = Path("knows.safetensors").absolute()
    save_weights(knows, load_file(loaded.path), {**loaded.about, "given_fraction": 0.25}, exact=True)
    arguments = ["sample", "--recipe", str(tiny), "--n", "1", "--set", f"sample.weights={knows}"]
    resampling = ["--set", "sample.gibbs=[audio]", "--set", "sample.gibbs_steps=3"]
    assert mmdisco([*arguments, *resampling, "--dry-run"]) == ExitCode.OK
    assert "then audio resampled given all others, 3 steps each" in capsys.readouterr().out
    assert mmdisco([*arguments, *resampling]) == ExitCode.OK
    assert mmdisco(arguments) == ExitCode.USAGE
    assert 'sample.gibbs ["audio"] instead of nothing' in capsys.readouterr().err


def test_nothing_is_made_anew_by_a_discriminator_that_never_saw_a_given_modality(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["sample", "--recipe", str(tiny), "--n", "1", "--set", "sample.gibbs=[audio]"]
    assert mmdisco(arguments) == ExitCode.USAGE
    assert "trained with train.given_fraction above 0" in capsys.readouterr().err


def test_dry_run_tells_of_a_disagreement(tiny: Path) -> None:
    assert mmdisco(["sample", "--recipe", str(tiny), "--n", "1"]) == ExitCode.OK
    arguments = ["sample", "--recipe", str(tiny), "--n", "1", "--dry-run", "--set", "sample.steps=3"]
    assert mmdisco(arguments) == ExitCode.USAGE
    assert mmdisco([*arguments, "--overwrite"]) == ExitCode.OK


def test_stdout_holds_paths_or_json_and_nothing_else(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = ["--prompt", "x", "--prompt", "y"]
    arguments = ["sample", "--recipe", str(tiny), "--n", "2", "--out", "[a b]", "--seed", "3", *prompts]
    assert mmdisco(arguments) == ExitCode.OK
    captured = capsys.readouterr()
    assert captured.out.splitlines() == ["[a b]/00000-seed3.mp4", "[a b]/00001-seed3.mp4"]
    assert "the prompts change nothing" in captured.err
    assert mmdisco([*arguments, "--json"]) == ExitCode.OK
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(o["path"], o["index"], o["seed"], o["prompt"]) for o in objects] == [
        ("[a b]/00000-seed3.mp4", 0, 3, "x"),
        ("[a b]/00001-seed3.mp4", 1, 3, "y"),
    ]
    assert all(isinstance(o["logit"], float) for o in objects)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--prompt", "a ball"], "the prompts change nothing"),
        (["--set", "sample.negative_prompt=noise"], "sample.negative_prompt changes nothing"),
        (["--set", "sample.cfg.audio=7"], "sample.cfg changes nothing"),
    ],
)
def test_what_changes_nothing_is_no_setting(
    arguments: list[str], said: str, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same directory takes samples made with and without it, in either order, and they are the same."""
    keep = ["--set", "sample.keep_latents=true"]
    plain, spoken = (["sample", "--recipe", str(tiny), *keep, "--n", n, "--out"] for n in ("1", "2"))
    assert mmdisco([*spoken, "one", *arguments]) == ExitCode.OK
    assert said in capsys.readouterr().err
    assert mmdisco([*plain, "one"]) == ExitCode.OK
    assert mmdisco([*plain, "other"]) == ExitCode.OK
    assert mmdisco([*spoken, "other", *arguments]) == ExitCode.OK
    assert (Path("other") / "settings.json").read_bytes() == (Path("one") / "settings.json").read_bytes()
    assert len(latents("one")) == 2
    assert_same_set(latents("one"), latents("other"))


@pytest.mark.parametrize(("key", "extra"), [("steps", ()), ("gibbs_steps", ("sample.gibbs=[x]",))])
def test_more_steps_than_a_model_has_are_refused_by_key(
    key: str, extra: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        "backbones: {x: {name: gaussian-mixture, schedule: vp-linear}, y: {name: gaussian-mixture}}\n"
        "data: {name: gaussians}\ndiscriminator: {name: mlp, width: 16, depth: 1}\n"
    )
    settings = [part for text in (f"sample.{key}=1001", *extra) for part in ("--set", text)]
    arguments = ["--recipe", str(recipe), *settings]
    assert mmdisco(["sample", "--independent", "--n", "1", *arguments]) == ExitCode.USAGE
    assert f"sample.{key}: steps must lie between 1 and 1000, not 1001" in capsys.readouterr().err
    assert mmdisco(["train", *arguments, "--set", "train.fakes=generated"]) == ExitCode.USAGE
    assert f"sample.{key}: steps must lie between 1 and 1000, not 1001" in capsys.readouterr().err


def test_an_n_below_one_is_wrong_usage(tiny: Path) -> None:
    assert mmdisco(["sample", "--recipe", str(tiny), "--n", "0"]) == ExitCode.USAGE
    with pytest.raises(UsageError, match="at least 1"):
        plan_job(recipes.load(str(tiny)), SampleOptions(n=0))


def test_video_and_audio_of_different_length_are_refused(tiny: Path) -> None:
    save_base(Path("long.safetensors"), "audio", SOUND, replace(REQUEST, seconds=0.8))
    recipe = recipes.load(str(tiny), ["backbones.audio.weights=long.safetensors", "sample.weights=null"])
    with pytest.raises(UsageError, match=r"audio would last 0\.8 s and the video 0\.4 s: let request\.seconds"):
        plan_job(recipe, SampleOptions(n=1, independent=True))


def test_an_output_that_cannot_be_written_is_a_data_error(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert mmdisco(["sample", "--recipe", str(tiny), "--n", "1", "--out", "file/out"]) == ExitCode.DATA
    assert "error: file/out: cannot write (Not a directory)" in capsys.readouterr().err


def test_a_video_that_does_not_fit_leaves_nothing(
    tiny: Path, largest_file: Callable[[int], AbstractContextManager[None]]
) -> None:
    with largest_file(2000), pytest.raises(DataError, match=r"00000-seed0\.mp4: cannot write"):
        make(tiny, "out", n=2)
    assert sorted(path.name for path in Path("out").iterdir()) == ["settings.json"]


def test_a_disk_full_at_the_end_of_a_file_leaves_what_was_whole(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    move = Path.replace

    def full(self: Path, target: Path) -> Path:
        if "00001" in target.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return move(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        with pytest.raises(DataError, match="No space left") as raised:
            make(tiny, "out", n=3)
    assert "\n" not in str(raised.value)
    assert [row["index"] for row in complete_rows(Path("out"))] == [0]
    assert leftovers(Path("out")) == []
    make(tiny, "out", n=3)
    make(tiny, "undisturbed", n=3)
    assert_same_set(latents("out"), latents("undisturbed"))


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_lets_the_sample_be_finished(tiny: Path, number: signal.Signals) -> None:
    job = plan_job(recipes.load(str(tiny)), SampleOptions(n=4, out=Path("out")))
    seen = []

    def report(row: dict[str, Any]) -> None:
        seen.append(row["index"])
        if row["index"] == 1:
            os.kill(os.getpid(), number)

    with pytest.raises(Stopped, match=f"stopped by {number.name} before 2 of 4 samples; run the same command again"):
        run.make_samples(job, report)
    assert seen == [0, 1] == [row["index"] for row in complete_rows(Path("out"))]
    run.make_samples(job)
    assert len(complete_rows(Path("out"))) == 4


def test_a_signal_while_denoising_ends_between_two_steps(tiny: Path) -> None:
    recipe = recipes.load(str(tiny))
    job = plan_job(recipe, SampleOptions(n=2, out=Path("out")))
    module = job.assembly.discriminator.module if job.assembly.discriminator else torch.nn.Identity()
    requested = []

    def hook(*_: Any) -> None:
        requested.append(1)
        os.kill(os.getpid(), signal.SIGTERM)

    handle = module.register_forward_hook(hook)
    with pytest.raises(Stopped):
        run.make_samples(job)
    handle.remove()
    assert len(requested) == 1
    assert complete_rows(Path("out")) == []


def test_audio_alone_becomes_a_wav(tiny: Path) -> None:
    recipe = recipes.load(str(tiny))
    alone = replace(recipe, backbones={"audio": recipe.backbones["audio"]}, sample=replace(recipe.sample, weights=None))
    rows: list[dict[str, Any]] = []
    run.make_samples(plan_job(alone, SampleOptions(n=2, out=Path("out"), independent=True)), rows.append)
    assert [row["path"] for row in rows] == ["00000-seed0.wav", "00001-seed0.wav"]
    with wave.open(str(Path("out") / rows[0]["path"])) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate(), file.getnframes()) == (1, 2, 16000, 6400)
