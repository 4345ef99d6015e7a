"""Stamps that jump: spans and memory follow what is covered, streams stay together, and the break is named."""

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from media_recorder import flat, pulse, record

from mmdisco_cli.data.breaks import Stamp, find_breaks
from mmdisco_cli.data.clips import open_clips
from mmdisco_cli.data.media import probe, read_clip, read_whole_audio, walk_frames

RATE = 16000
AT = (0.5, 1.5, 2.5, 3.5)
Move = Callable[[float], float]
SAME: Move = lambda t: t  # noqa: E731
HOUR: Move = lambda t: t + 3600 * (t >= 2)  # noqa: E731
DAYS: Move = lambda t: t + 360000 * (t >= 2)  # noqa: E731
HOURLY: Move = lambda t: t + 3600 * int(t)  # noqa: E731
CASES = {
    "both": (HOUR, HOUR), "days": (DAYS, DAYS), "sound": (SAME, HOUR), "video": (HOUR, SAME), "often": (HOURLY, HOURLY)
}  # fmt: skip


def jumping(path: Path, video: Move, sound: Move) -> Path:
    images = [(k / 10, flat(20 + 5 * k)) for k in range(40)]
    return record(path, images, sum(pulse(RATE, 4, at) for at in AT), RATE, move_video=video, move_sound=sound)


def clicks(path: Path) -> list[float]:
    sound, rate = read_whole_audio(probe(path))
    loud = np.flatnonzero(sound.abs().numpy() > 0.4) / rate
    return [float(time) for k, time in enumerate(loud) if k == 0 or time > loud[k - 1] + 0.1]


# MP4 and transport streams cannot hold a stamp as late as days.
HELD = [(name, form) for name in CASES for form in ("mkv", "mp4", "ts") if name != "days" or form == "mkv"]


@pytest.mark.parametrize(("name", "form"), HELD)
def test_play_goes_on_where_stamps_jump(name: str, form: str, tmp_path: Path) -> None:
    file = jumping(tmp_path / f"jump.{form}", *CASES[name])
    info = probe(file)
    assert info.video is not None
    assert info.audio is not None
    begin = float(info.video.start)
    assert float(info.video.stop) == pytest.approx(begin + 4, abs=0.01)
    assert float(info.audio.stop) == pytest.approx(begin + 4, abs=0.07)
    assert clicks(file) == pytest.approx([begin + at for at in AT], abs=2e-3)
    shown = [(float(time), frame.mean()) for time, frame in walk_frames(info)]
    assert [time for time, _ in shown] == pytest.approx([begin + k / 10 for k in range(40)], abs=2e-3)
    assert [level for _, level in shown] == pytest.approx([20 + 5 * k for k in range(40)], abs=2)
    assert "time stamps jump by +36" in info.remarks[0]
    assert ("the first of 3 breaks" in info.remarks[0]) == (name == "often")


def test_training_has_as_many_windows_as_there_is_time_and_says_where_stamps_jump(tmp_path: Path) -> None:
    jumping(tmp_path / "a.mkv", DAYS, DAYS)
    jumping(tmp_path / "b.mkv", SAME, SAME)
    found = open_clips(tmp_path, frames=10, fps=10, height=32, width=48, sample_rate=RATE)
    assert [window.name for window in found.windows] == ["a.mkv"] * 4 + ["b.mkv"] * 4
    assert found.report == ("note a.mkv: time stamps jump by +360000.00 s at 2.00 s",)
    across, plain = (read_clip(tmp_path / name, 1.5, 10, 10, 32, 48, RATE) for name in ("a.mkv", "b.mkv"))
    assert float((across.video - plain.video).abs().max()) < 0.05
    assert float((across.audio - plain.audio).abs().max()) < 0.02


def test_joined_recordings_whose_stamps_begin_again_are_played_one_after_the_other(tmp_path: Path) -> None:
    one = jumping(tmp_path / "one.ts", SAME, SAME).read_bytes()
    joined = tmp_path / "joined.ts"
    joined.write_bytes(3 * one)
    info = probe(joined)
    assert float(info.span().stop - info.span().start) == pytest.approx(12, abs=0.2)
    assert len(clicks(joined)) == 12
    assert len(list(walk_frames(info))) == 120
    assert "time stamps jump by -" in info.remarks[0]
    assert "the first of 2 breaks" in info.remarks[0]


def test_a_pause_of_sound_beside_sparse_frames_is_a_pause(tmp_path: Path) -> None:
    for form in ("mkv", "mp4"):
        file = jumping(tmp_path / f"pause.{form}", lambda t: 8 * t, lambda t: t + 20 * (t >= 2))
        assert probe(file).remarks == ()
        assert clicks(file) == pytest.approx([0.5, 1.5, 22.5, 23.5], abs=2e-3)


def test_a_pause_that_may_be_one_is_kept(tmp_path: Path) -> None:
    file = jumping(tmp_path / "pause.mkv", lambda t: t + 8 * (t >= 2), lambda t: t + 8 * (t >= 2))
    assert probe(file).remarks == ()
    assert clicks(file) == pytest.approx([0.5, 1.5, 10.5, 11.5], abs=2e-3)


def test_sound_keeps_its_distance_from_the_frame_across_a_break(tmp_path: Path) -> None:
    file = jumping(tmp_path / "apart.mkv", HOUR, lambda t: t + 3600.3 * (t >= 2))
    assert clicks(file) == pytest.approx([0.5, 1.5, 2.8, 3.8], abs=2e-3)


def test_a_single_packet_stamped_wildly_leaves_the_rest_where_it_was() -> None:
    stamps = [Stamp(Fraction(k, 10) + 7000 * (k == 5), Fraction(1, 10), k) for k in range(10)]
    there, back = find_breaks({0: stamps})
    assert (there.number, there.jump, back.number, back.jump) == (5, 7000, 6, -7000)
    assert (there.at, back.at) == (Fraction(1, 2), Fraction(3, 5))
