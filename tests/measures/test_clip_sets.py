"""Which clips of a folder count, what they are called, and what is wrong with a cache rather than with them."""

import shutil
from pathlib import Path

import pytest

from mmdisco_cli.errors import DataError
from mmdisco_cli.measures.analysis import Analysis
from mmdisco_cli.measures.cache import Cache
from mmdisco_cli.measures.clip_sets import Measuring, list_clips, measure_clips
from mmdisco_cli.run.distribution import Ranks

CLIP = Path(__file__).parent.parent / "assets" / "synth_sync_10.mp4"


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def listed(folder):
    return [path.relative_to(folder).as_posix() for path in list_clips(folder)]


def test_what_is_hidden_is_so_below_the_folder_that_was_named(tmp_path):
    touch(tmp_path, ".mine/a.mp4", ".mine/sub/b.MKV", ".mine/.c.mp4", ".mine/.sub/deep/d.mp4", ".mine/e.txt")
    assert listed(tmp_path / ".mine") == ["a.mp4", "sub/b.MKV"]
    assert listed(tmp_path / ".mine" / ".sub") == ["deep/d.mp4"]
    touch(tmp_path, "theirs/.sub/f.mp4")
    with pytest.raises(DataError, match="holds no samples"):
        list_clips(tmp_path / "theirs")


def test_links_to_folders_are_followed_and_no_folder_counts_twice(tmp_path):
    touch(tmp_path, "videos/a.mp4", "videos/z/b.mp4", "other/c.mp4", "other/deep/d.mp4", "videos/.kept/e.mp4")
    videos = tmp_path / "videos"
    (videos / "again").symlink_to(videos / "z")
    (videos / "linked").symlink_to(tmp_path / "other")
    (videos / "kept").symlink_to(".kept")
    (videos / "z" / "loop").symlink_to(videos)
    (videos / "gone").symlink_to(tmp_path / "absent")
    assert listed(videos) == ["a.mp4", "kept/e.mp4", "linked/c.mp4", "linked/deep/d.mp4", "z/b.mp4"]
    (tmp_path / "link").symlink_to(videos)
    assert listed(tmp_path / "link") == listed(videos)


def test_clips_are_called_by_their_path_below_the_folder_that_was_named(tmp_path):
    for name in ("a/1.mp4", "b/1.mp4", "1.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(CLIP, tmp_path / name)
    paths, how = list_clips(tmp_path), Measuring(Analysis(height=32), Cache(tmp_path / "cache"))
    below = measure_clips(paths, how, "clips", 0, Ranks(), tmp_path)
    assert [one.name for one in below.clips] == ["1.mp4", "a/1.mp4", "b/1.mp4"]
    alone = measure_clips(paths, how, "clips", 0, Ranks())
    assert [one.name for one in alone.clips] == ["1.mp4"] * 3


def test_a_cache_that_cannot_be_written_is_no_fault_of_the_clips(tmp_path):
    (tmp_path / "cache").touch()
    with pytest.raises(DataError, match=r"^--cache .*/cache: cannot write") as caught:
        measure_clips([CLIP] * 3, Measuring(Analysis(height=32), Cache(tmp_path / "cache")), "clips", 1.0, Ranks())
    assert "cannot be used" not in str(caught.value)


def test_what_was_kept_is_read_from_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    how = Measuring(Analysis(height=32), Cache(tmp_path))
    first = measure_clips([CLIP], how, "clips", 0, Ranks())
    monkeypatch.setattr(Cache, "put", lambda *_: pytest.fail("wrote what was there"))
    assert measure_clips([CLIP], how, "clips", 0, Ranks()).clips[0].facts == first.clips[0].facts
