"""Whatever one clip does, it is one row: named with its reason, counted, and the rest is measured."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from mmdisco_cli.app import run as mmdisco
from mmdisco_cli.data.clips import open_clips
from mmdisco_cli.data.index import probes
from mmdisco_cli.data.naming import SOUND_SUFFIXES, SUFFIXES, VIDEO_SUFFIXES, file_errors
from mmdisco_cli.diffusion.backbone import ModalityPlan
from mmdisco_cli.errors import DataError, DeviceError, ExitCode, Stopped, UsageError
from mmdisco_cli.kinds import video
from mmdisco_cli.measures import clip as measured_clip
from mmdisco_cli.measures.clip_sets import list_clips
from mmdisco_cli.measures.names import better
from mmdisco_cli.sampling.given import find_sources, read_media

ASSETS = Path(__file__).parent.parent / "assets"
SMALL = {"frames": 8, "fps": 10, "height": 16, "width": 24, "sample_rate": 8000}
FAULTS = [
    AssertionError("(-215:Assertion failed) prev0.size() == next0.size()"),
    ValueError("all the input array dimensions must match"),
    MemoryError("Unable to allocate 69.0 GiB for an array"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 74088185856 bytes"),
    ZeroDivisionError(),
]


@pytest.fixture
def folder(in_empty_folder):
    Path("videos").mkdir()
    for path in sorted(ASSETS.glob("*.mp4"))[:3]:
        shutil.copy(path, "videos")
    shutil.copy(ASSETS / "synth_sync_10.mp4", "videos/odd.mp4")
    return Path("videos")


def failing(real, fault, place=0):
    """Return a function that raises for the file odd.mp4, which is its argument of that place or lies in it."""

    def wrapped(*arguments, **named):
        if "odd.mp4" in str(arguments[place]):
            raise fault
        return real(*arguments, **named)

    return wrapped


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_clip_that_fails_in_any_way_is_listed_and_counts_toward_the_share(folder, capsys, monkeypatch, fault):
    monkeypatch.setattr(measured_clip, "probe", failing(measured_clip.probe, fault))
    arguments = ["eval", "--samples", "videos", "--analysis-height", "32", "--json"]
    assert mmdisco(arguments) == ExitCode.DATA
    err = capsys.readouterr().err
    assert f"error: videos/odd.mp4: {type(fault).__name__}" in err
    assert "1 of 4 clips cannot be used" in err
    assert mmdisco([*arguments, "--max-bad", "0.25"]) == ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    (bad,) = found["protocol"]["unusable"]
    assert bad["path"] == "videos/odd.mp4"
    assert bad["reason"].startswith(type(fault).__name__)
    assert (found["n"], found["metrics"]["health"]["samples"]["unusable"]) == (3, 1)


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), Stopped("stopped"), UsageError("of the whole")])
def test_what_ends_the_program_is_no_fault_of_a_clip(folder, monkeypatch, fault):
    with pytest.raises(type(fault)), file_errors("videos/odd.mp4"):
        raise fault
    monkeypatch.setattr(measured_clip, "probe", failing(measured_clip.probe, fault))
    code = {KeyboardInterrupt: ExitCode.INTERRUPTED, Stopped: ExitCode.STOPPED, UsageError: ExitCode.USAGE}
    assert mmdisco(["eval", "--samples", "videos", "--analysis-height", "32", "--max-bad", "1"]) == code[type(fault)]


def test_memory_that_a_file_asks_for_is_distinguished_from_a_bad_file():
    with pytest.raises(DeviceError, match=r"^a\.mp4: MemoryError"), file_errors("a.mp4"):
        raise MemoryError
    with pytest.raises(DataError, match=r"^a\.mp4: IndexError: list"), file_errors("a.mp4"):
        [][0]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_a_training_set_skips_what_fails_in_any_way(folder, monkeypatch, fault):
    monkeypatch.setattr(probes, "probe", failing(probes.probe, fault))
    found = open_clips(folder, **SMALL)
    (name, reason), *_ = found.skipped
    assert (name, len(found.skipped)) == ("odd.mp4", 1)
    assert reason.startswith(type(fault).__name__)


def test_a_window_that_fails_later_names_its_file(folder, monkeypatch):
    found = open_clips(folder, **SMALL, cache_bytes=0)
    monkeypatch.setattr(type(found._store), "get", lambda *_: torch.empty(0)[1])
    with pytest.raises(DataError, match=r"videos/.*\.mp4: IndexError"):
        found.media([0], ["video"])


def test_a_given_file_that_fails_is_named(folder, monkeypatch):
    monkeypatch.setattr(video, "read_video", failing(video.read_video, ValueError("no good")))
    plan = ModalityPlan((1,), (3, 8, 16, 24), 10.0, 0.8)
    with pytest.raises(DataError, match=r"videos/odd\.mp4: ValueError: no good"):
        read_media(folder / "odd.mp4", "video", plan)


def test_a_page_whose_clip_cannot_be_drawn_is_written(folder, capsys, monkeypatch):
    from mmdisco_cli.evaluation import report_cards
    from mmdisco_cli.kinds import drawing

    monkeypatch.setattr(report_cards, "embedded", failing(report_cards.embedded, ValueError("no good")))
    monkeypatch.setattr(drawing, "draw_clip", failing(drawing.draw_clip, ValueError("cannot draw")))
    assert mmdisco(["eval", "--samples", "videos", "--analysis-height", "32"]) == ExitCode.OK
    assert "odd.mp4: ValueError: cannot draw" in Path("runs/eval/report.html").read_text()


def test_one_list_of_suffixes_serves_all(tmp_path):
    plan = {
        "video": ModalityPlan((1,), (3, 8, 16, 24), 10.0, 0.8),
        "audio": ModalityPlan((1,), (1, 8), 10.0, 0.8),
    }
    for suffix in SUFFIXES:
        (tmp_path / f"a{suffix.upper()}").touch()
    (tmp_path / "a.txt").touch()
    names = {f"a{suffix.upper()}" for suffix in VIDEO_SUFFIXES}
    assert {path.name for path in list_clips(tmp_path)} == names
    (source,) = find_sources({"video": tmp_path}, plan).values()
    assert {file.name for file in source.files} == names
    (source,) = find_sources({"audio": tmp_path}, plan).values()
    assert {file.name for file in source.files} == names | {f"a{suffix.upper()}" for suffix in SOUND_SUFFIXES}
    with pytest.raises(DataError, match=f"none of {len(SUFFIXES)} files is usable"):
        open_clips(tmp_path, **SMALL)


def test_mpg_is_trained_on_and_measured(tmp_path):
    from media_files import mpeg_program_stream

    mpeg_program_stream(tmp_path / "a.mpg")
    assert open_clips(tmp_path, **SMALL, holdout=0).length == 2
    assert [path.name for path in list_clips(tmp_path)] == ["a.mpg"]


def test_unknown_metrics_list_all_that_there_are(folder, capsys):
    assert mmdisco(["eval", "--samples", "videos", "--metrics", "foo"]) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert "--metrics foo: unknown (known: av_align, av_align_chance, av_align_gain, av_lag, " in err
    assert all(name in err for name in ("fd_logmel", "health", "accuracy", "what an --extractor adds"))
    assert mmdisco(["eval", "--samples", "videos", "--metrics", "av_aligm"]) == ExitCode.USAGE
    assert "did you mean av_align or" in capsys.readouterr().err


def test_the_terminal_says_the_conclusion_and_which_way_is_good(folder, capsys):
    assert mmdisco(["eval", "--samples", "videos", "--reference", str(ASSETS), "--analysis-height=32"]) == ExitCode.OK
    err = capsys.readouterr().err
    lines = {line.split("  ")[0]: line.split()[-1] for line in err.splitlines() if line.strip()}
    assert (lines["av align"], lines["av align chance"], lines["fd logmel"]) == ("higher", "-", "lower")
    assert "av lag" in lines
    assert "AV-Align above mismatched pairs: " in err
    assert "better" in err
    assert "higher is better" in Path("runs/eval/report.html").read_text()


def test_directions():
    assert {better(name) for name in ("fvd", "kvd", "fad_vggish", "kd_motion", "fd", "fvd_mm_diffusion")} == {"lower"}
    assert {better(name) for name in ("av_align_gain", "event_iou", "imagebind", "accuracy")} == {"higher"}
    assert {better(name) for name in ("av_lag", "desync")} == {"nearer 0"}
    assert {better(name) for name in ("av_align_chance", "events_seen", "health", "logit")} == {""}
