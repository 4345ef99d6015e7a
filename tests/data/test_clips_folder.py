"""A folder of videos as a data set: windows by time, split by file, nothing replaced in silence."""

import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from media_recorder import flat, pulse, record

from mmdisco_cli.cache.workers import Reader
from mmdisco_cli.data.clips import ClipsDataset, build, open_clips
from mmdisco_cli.data.contract import as_float
from mmdisco_cli.data.media import read_clip
from mmdisco_cli.data.options import ClipsOptions
from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import DataError, UsageError

ASSETS = Path(__file__).parent.parent / "assets"
SMALL: dict[str, Any] = {"frames": 8, "fps": 10, "height": 16, "width": 24, "sample_rate": 8000}


def write_video(path: Path, seconds: float = 2.0, level: int = 20) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [(i / 10, flat(level + 6 * i)) for i in range(round(seconds * 10))]
    return record(path, images, pulse(16000, seconds, 0.3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    for index in range(5):
        write_video(root / f"{index}.mp4", level=20 + 10 * index)
    write_video(root / "deeper" / "ünï.mkv", 1.3)
    (root / "broken.mp4").write_bytes(b"no video")
    write_video(root / "short.mp4", 0.5)
    record(root / "mute.mp4", [(i / 10, flat(20 + 6 * i)) for i in range(20)])
    record(root / "still.mp4", [(i / 10, flat(90)) for i in range(10)], torch.zeros(1, 16000).numpy())
    (root / "notes.txt").write_text("not a video")
    (root / ".hidden.mp4").write_bytes(b"half written")
    return root


@pytest.fixture(scope="module")
def videos(folder: Path) -> ClipsDataset:
    return open_clips(folder, **SMALL, holdout=0.3)


def test_windows_lie_end_to_end_within_each_file(videos: ClipsDataset) -> None:
    starts = [(window.name, float(window.start)) for window in videos.windows]
    expected = [(f"{i}.mp4", start) for i in range(5) for start in (0.0, 0.8)]
    assert starts == [*expected, ("deeper/ünï.mkv", 0.0), ("still.mp4", 0.0)]
    assert videos.length == 12


def test_what_is_skipped_and_what_is_odd_is_said(videos: ClipsDataset, folder: Path) -> None:
    reasons = dict(videos.skipped)
    assert set(reasons) == {"broken.mp4", "short.mp4", "mute.mp4"}
    assert reasons["short.mp4"] == "only 0.500 s of audio and video, a window takes 0.800 s"
    assert reasons["mute.mp4"] == "no audio stream that can be decoded"
    assert {"note still.mp4: silent", "note still.mp4: the video does not move"} < set(videos.report)
    assert "skipped mute.mp4: no audio stream that can be decoded" in videos.report
    assert not any(str(folder) in line for line in videos.report)


def test_media_are_the_windows_of_the_file(videos: ClipsDataset, folder: Path) -> None:
    media = videos.media([1, 10], ["audio", "video"])
    assert media["audio"].shape == (2, 1, 6400)
    assert media["video"].shape == (2, 3, 8, 16, 24)
    clip = read_clip(folder / "0.mp4", Fraction(8, 10), 8, 10, 16, 24, 8000)
    assert float((media["video"][0] - clip.video).abs().max()) < 1e-6
    assert float((media["audio"][0] - clip.audio).abs().max()) < 1e-4
    assert set(videos.media([0], ["video"])) == {"video"}
    assert torch.equal(videos.clip(1).video, media["video"][0])
    assert videos.clip(1).start == pytest.approx(0.8)


def test_a_full_memory_changes_nothing_but_speed(videos: ClipsDataset, folder: Path) -> None:
    uncached = open_clips(folder, **SMALL, holdout=0.3, cache_bytes=0)
    for name, tensor in videos.media(range(12), ["audio", "video"]).items():
        # A window decoded alone and one cut from a longer stretch differ at most by rounding to 16 bits.
        assert float((tensor - uncached.media(range(12), [name])[name]).abs().max()) < 1e-4
    assert uncached.fingerprint == videos.fingerprint


def test_no_file_is_on_both_sides_and_copies_stay_together(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "videos"
    shutil.copytree(folder, root)
    for index in range(5):
        shutil.copy(root / f"{index}.mp4", root / f"copy{index}.mp4")
    videos = open_clips(root, **SMALL, stride=0.2, holdout=0.4)
    sides = [{window.digest for window in videos.split(side).windows} for side in ("train", "heldout")]
    assert sides[0].isdisjoint(sides[1])
    assert all(sides)
    lengths = [videos.split(side).length or 0 for side in ("train", "heldout")]
    assert sum(lengths) == videos.length
    assert videos.split("train").fingerprint != videos.split("heldout").fingerprint != videos.fingerprint


def test_a_new_file_moves_no_old_one_across(folder: Path, tmp_path: Path) -> None:
    before = {window.name: window.heldout for window in open_clips(folder, **SMALL, holdout=0.5).windows}
    root = tmp_path / "videos"
    shutil.copytree(folder, root)
    write_video(root / "new.mp4", level=99)
    after = {window.name: window.heldout for window in open_clips(root, **SMALL, holdout=0.5).windows}
    assert before == {name: side for name, side in after.items() if name in before}


def test_folders_named_train_and_test_decide(tmp_path: Path) -> None:
    write_video(tmp_path / "train" / "a.mp4", 1.0)
    write_video(tmp_path / "test" / "b.mp4", 1.0, level=60)
    videos = open_clips(tmp_path, **SMALL)
    assert [window.name for window in videos.split("heldout").windows] == ["test/b.mp4"]
    assert [window.name for window in videos.split("train").windows] == ["train/a.mp4"]


def test_one_modality_needs_no_other(folder: Path, tmp_path: Path) -> None:
    seen = open_clips(folder, **SMALL, modalities=("video",))
    assert "mute.mp4" in {window.name for window in seen.windows}
    record(tmp_path / "a.wav", sound=pulse(16000, 1.7, 0.4), codecs=("", "pcm_s16le"))
    sounds = open_clips(tmp_path, **SMALL, modalities=("audio",))
    assert sounds.media([0, 1], ["audio"])["audio"].shape == (2, 1, 6400)


def test_the_fingerprint_follows_the_content_and_the_sizes(folder: Path, videos: ClipsDataset) -> None:
    assert open_clips(folder, **SMALL, holdout=0.3).fingerprint == videos.fingerprint
    assert open_clips(folder, **SMALL | {"height": 24}, holdout=0.3).fingerprint != videos.fingerprint
    assert open_clips(folder, **SMALL, holdout=0.3, stride=0.4).fingerprint != videos.fingerprint


def test_a_folder_without_a_usable_clip_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        open_clips(tmp_path / "absent", **SMALL)
    with pytest.raises(DataError, match="no file ends in"):
        open_clips(tmp_path, **SMALL)
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "b.mp4").write_bytes(b"text")
    with pytest.raises(DataError, match=r"none of 2 files is usable \(2x corrupt, cut short or no media file at all\)"):
        open_clips(tmp_path, **SMALL)


def test_one_file_leaves_nothing_to_hold_out(tmp_path: Path) -> None:
    videos = open_clips(write_video(tmp_path / "a.mp4", 1.0), **SMALL)
    assert videos.split("train").length == 1
    with pytest.raises(DataError, match="heldout"):
        videos.split("heldout")


def test_a_recipe_opens_a_folder_of_real_clips() -> None:
    request = Request(seconds=1.6, frames=16, fps=10, height=32, width=32)
    videos = build(ClipsOptions(path=str(ASSETS)), request)
    assert {window.name for window in videos.windows} == {file.name for file in ASSETS.glob("*.mp4")}
    assert "note synth_static_silent_25.mp4: silent" in videos.report
    assert videos.media([0], ["video"])["video"].shape == (1, 3, 16, 32, 32)
    with pytest.raises(UsageError, match=r"data\.path"):
        build(ClipsOptions(), request)


def test_compact_media_are_the_same_in_fewer_bytes(folder: Path) -> None:
    data = open_clips(folder, **SMALL)
    compact, media = (read([0, 2], ("audio", "video")) for read in (data.compact, data.media))
    assert {name: found.dtype for name, found in compact.items()} == {"audio": torch.int16, "video": torch.uint8}
    for name, found in media.items():
        assert found.dtype == torch.float32
        assert torch.equal(as_float(compact[name]), found)
        assert as_float(found) is found
    assert torch.equal(media["video"], compact["video"].float() / 127.5 - 1)
    assert torch.equal(media["audio"], compact["audio"].float() / 32767)
    read = Reader({"": data}, {m: tuple(found.shape[1:]) for m, found in media.items()})["", [0, 2]]
    assert all(torch.equal(found, compact[name]) for name, found in read.media.items())
