"""`--format` and `--sheet`: video as .webm from the sample to the page and back, and one image of a run."""

import json
from pathlib import Path

import av
import pytest
from PIL import Image
from tiny_models import SOUND, save_base

from mmdisco_cli.app import run as mmdisco
from mmdisco_cli.data.manifest import complete_rows
from mmdisco_cli.data.writing import codecs
from mmdisco_cli.errors import ExitCode
from mmdisco_cli.evaluation.samples import draw_clips
from mmdisco_cli.measures.clip_sets import list_clips
from mmdisco_cli.recipes import recipe as recipes

pytestmark = pytest.mark.usefixtures("in_empty_folder")


def sample(tiny: Path, *arguments: str, n: int = 2, out: str = "out") -> ExitCode:
    return mmdisco(["sample", "--recipe", str(tiny), "--n", str(n), "--out", out, *arguments])


def names(folder: str = "out") -> list[str]:
    return [row["path"] for row in complete_rows(Path(folder))]


def test_a_run_of_webm_goes_on_as_such_in_shards_too_and_is_given_again(tiny: Path, capsys) -> None:
    assert sample(tiny, "--format", "webm", "--shard", "1/2") == ExitCode.OK
    assert sample(tiny, "--json", n=3) == ExitCode.OK  # what is there says how
    assert names() == [f"0000{k}-seed0.webm" for k in range(3)]
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert {Path(path).suffix for one in printed for path in one["files"].values()} == {".webm"}
    with av.open("out/00001-seed0.webm") as container:
        assert [stream.codec.name for stream in container.streams] == ["vp9", "opus"]
    assert 'src="00002-seed0.webm"' in Path("out/index.html").read_text()
    assert sample(tiny, "--format", "webm", n=3, out="again") == ExitCode.OK
    assert all((Path("out") / name).read_bytes() == (Path("again") / name).read_bytes() for name in names())
    assert sample(tiny, "--given", "video=out", out="held") == ExitCode.OK
    assert complete_rows(Path("held"))[1]["given"] == {"video": "out/00001-seed0.webm"}


@pytest.mark.parametrize(("first", "then"), [("mp4", "webm"), ("webm", "mp4")])
def test_another_format_is_refused_in_one_line_and_overwritten_on_request(
    tiny: Path, capsys, first: str, then: str
) -> None:
    assert sample(tiny, "--format", first) == ExitCode.OK
    capsys.readouterr()
    assert sample(tiny, "--format", then) == ExitCode.USAGE
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert f'holds samples made with format "{first}" instead of "{then}" (choose another --out' in line
    assert names() == [f"0000{k}-seed0.{first}" for k in range(2)]
    assert sample(tiny, "--format", then, "--overwrite") == ExitCode.OK
    assert names() == [f"0000{k}-seed0.{then}" for k in range(2)]


def test_samples_of_before_there_was_a_choice_are_mp4(tiny: Path) -> None:
    assert sample(tiny) == ExitCode.OK
    assert "format" not in json.loads(Path("out/settings.json").read_text())
    assert sample(tiny, "--format", "mp4", n=3) == ExitCode.OK
    assert len(names()) == 3


def test_the_page_shows_a_control_of_another_format_and_evaluation_takes_what_is_there(tiny: Path, capsys) -> None:
    run = ["sample", "--recipe", str(tiny), "--n", "2"]
    assert mmdisco([*run, "--independent"]) == ExitCode.OK
    assert mmdisco([*run, "--format", "webm"]) == ExitCode.OK
    name = recipes.load(str(tiny)).name
    page = Path(f"runs/{name}/samples/index.html").read_text()
    assert "../independent/00001-seed0.mp4" in page
    found = draw_clips(recipes.load(str(tiny)), 2)
    assert found == list_clips(Path(f"runs/{name}/samples"))
    assert [path.suffix for path in found] == [".webm", ".webm"]


def test_what_cannot_be_written_is_said_before_anything_is_made(
    tiny: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sample(tiny, "--format", "web") == ExitCode.USAGE
    assert "--format web: unknown (did you mean webm?)" in capsys.readouterr().err
    monkeypatch.setattr(codecs.av, "codecs_available", {"libx264", "aac", "libopus"})
    assert sample(tiny, "--format", "webm") == ExitCode.USAGE
    assert "has no encoder libvpx-vp9" in capsys.readouterr().err
    assert not Path("out").exists()


def test_a_format_changes_nothing_of_audio_alone(tiny: Path, tmp_path: Path, capsys) -> None:
    recipe = tmp_path / "sound.yaml"
    save_base(tmp_path / "audio.safetensors", "audio", SOUND)
    recipe.write_text("backbones: {audio: {name: token, weights: audio.safetensors}}\nsample: {steps: 2}\n")
    assert sample(recipe, "--independent", "--format", "webm", "--sheet") == ExitCode.OK
    assert "--format webm changes nothing: no sample has video" in capsys.readouterr().err
    assert [Path(name).suffix for name in names()] == [".wav", ".wav"]
    assert "format" not in json.loads(Path("out/settings.json").read_text())
    with Image.open("out/sheet.png") as image:
        assert image.width == 960


def test_a_sheet_of_a_run_that_is_there_samples_nothing_again(tiny: Path, capsys) -> None:
    assert sample(tiny, n=3) == ExitCode.OK
    before = {path.name: path.stat().st_mtime_ns for path in Path("out").glob("*.mp4")}
    capsys.readouterr()
    assert sample(tiny, "--sheet", n=2) == ExitCode.OK
    said = capsys.readouterr()
    assert "2 samples on out/sheet.png" in said.err
    assert len(said.out.splitlines()) == 2
    assert before == {path.name: path.stat().st_mtime_ns for path in Path("out").glob("*.mp4")}
    two = Path("out/sheet.png").read_bytes()
    assert sample(tiny, "--sheet", n=3) == ExitCode.OK
    assert Path("out/sheet.png").read_bytes() != two
    assert sample(tiny, "--sheet", "--dry-run", out="none") == ExitCode.OK
    assert not Path("none").exists()
