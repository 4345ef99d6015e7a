"""Clips of every kind are measured by their time stamps, decoded once, and what cannot be used is named with why."""

import csv
import json
import re
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from media_recorder import flat, pulse, record

from mmdisco_cli.app import run as mmdisco
from mmdisco_cli.data.media import Span, read_clip, write_mp4
from mmdisco_cli.errors import DataError, ExitCode
from mmdisco_cli.measures.alignment import matched, peaks_of
from mmdisco_cli.measures.analysis import Analysis
from mmdisco_cli.measures.cache import Cache
from mmdisco_cli.measures.clip import ClipShape, FurtherAnalysis, measure_clip
from mmdisco_cli.measures.clip_sets import Measuring, list_clips, measure_clips
from mmdisco_cli.measures.frame_choice import spaced
from mmdisco_cli.measures.health import flags_of, gap_of, health_of
from mmdisco_cli.run.distribution import Ranks

HERE = Path(__file__).parent
ASSETS = HERE.parent / "assets"
RATE = 16000


def measured(path, analysis=None):
    return measure_clip(path, analysis or Analysis(height=32))


def noise(seconds=1.6):
    return 0.1 * torch.randn(1, round(seconds * RATE), generator=torch.Generator().manual_seed(0)).numpy()


def jumping(fps, seconds, at):
    """Return frames in which a square jumps at each of the given times."""
    images, side = [], 0
    for k in range(round(fps * seconds)):
        time = k / fps
        side = sum(time >= moment for moment in at)
        image = flat(30, (48, 64))
        image[16:32, 8 + 12 * side : 20 + 12 * side] = 220
        images.append((time, image))
    return images


def test_frames_are_taken_at_their_times_whatever_the_rate(tmp_path):
    for fps in (10, 25, 30):
        path = record(tmp_path / f"{fps}.mp4", jumping(fps, 2, [0.5, 1.2]), noise(2.0))
        found = measured(path)
        # The recorder shows its last frame for a tenth of a second; of 25 a second every third is taken.
        assert len(found.times) in ((17, 18) if fps == 25 else (20, 21))
        assert found.times[1] - found.times[0] == pytest.approx(0.12 if fps == 25 else 0.1)
        moving = [float(found.times[i]) for i in np.nonzero(found.motion > 0.2)[0] if i]
        assert moving == pytest.approx([0.5, 1.2], abs=0.11)


def panned(folder, fps, at):
    """Record what moves by 40 pixels a second, and by 5 more at each of the given times."""
    grain = cv2.GaussianBlur(np.random.default_rng(0).random((64, 400, 3)), (0, 0), 3)
    scene = np.uint8(255 * (grain - grain.min()) / (grain.max() - grain.min()))
    images = []
    for k in range(int(2.4 * fps)):
        place = 40 * k / fps + sum(2.5 * (1 + np.tanh((k / fps - time) / 0.05)) for time in at)
        images.append((k / fps, cv2.warpAffine(scene, np.float32([[1, 0, -place], [0, 1, 0]]), (96, 64))))
    return record(folder / f"{fps}-{len(at)}.mp4", images, noise(2.4))


@pytest.mark.parametrize("fps", [5, 8, 12, 15, 16, 20, 24, 25, 30])
def test_steady_motion_is_steady_and_as_large_at_any_rate(fps, tmp_path):
    motion = measured(panned(tmp_path, fps, ()), Analysis(64)).motion
    assert motion.min() == pytest.approx(4, rel=0.08)
    assert motion.max() == pytest.approx(4, rel=0.08)


@pytest.mark.parametrize("fps", [8, 10, 12, 15, 16, 24, 25, 30])
def test_motion_peaks_where_something_happens_at_any_rate(fps, tmp_path):
    moments = [0.56, 1.17, 1.88]
    found = measured(panned(tmp_path, fps, moments), Analysis(64))
    peaks = peaks_of(found, "tempotokens-2025").motion
    assert matched(moments, peaks, found.match_window, once=True) == 3
    # Flow is not steady to the last digit: of its own frames too one or two stand out.
    assert len(peaks) <= 5


@pytest.mark.parametrize(
    ("fps", "step"), [("10", 1), ("20", 2), ("30", 3), ("60", 6), ("30000/1001", 3), ("24000/1001", 2), ("25", 3),
                      ("15", 2), ("16", 2), ("12", 1), ("8", 1), ("5", 1)]
)  # fmt: skip
@pytest.mark.parametrize("milliseconds", [False, True])
def test_every_so_many_frames_are_taken_whole_steps_apart(fps, step, milliseconds):
    rate = Fraction(fps)
    stamps = [Fraction(round(1000 * k / rate), 1000) if milliseconds else k / rate for k in range(int(3 * rate))]
    span, passed = Span(Fraction(0), stamps[-1] + 1 / rate), []
    found = [time for time, _ in spaced(((time, flat(0)) for time in stamps), span, Fraction(10), passed)]
    assert passed == stamps
    assert found == stamps[::step][: len(found)]
    assert len(found) >= len(stamps[::step]) - 1


def test_uneven_frames_and_late_streams(tmp_path):
    even = jumping(20, 2, [1.0])
    uneven = record(tmp_path / "uneven.mp4", [one for k, one in enumerate(even) if k % 7 < 4], noise(2.0))
    late = record(tmp_path / "late.mp4", even, noise(2.0), move_video=lambda t: t + 0.5)
    quiet_start = record(tmp_path / "quiet.mp4", even, noise(2.0), move_sound=lambda t: t + 0.4)
    found = {path.stem: measured(path) for path in (uneven, late, quiet_start)}
    assert flags_of(found["uneven"]) == ["uneven"]
    assert found["late"].times[0] == pytest.approx(0.5, abs=0.01)
    assert flags_of(found["late"]) == ["gap"]
    assert found["quiet"].facts["audio"][0] == pytest.approx(0.4 - 1024 / RATE, abs=0.01)  # the codec's lead
    moving = float(found["late"].times[1 + int(found["late"].motion[1:].argmax())])
    assert moving == pytest.approx(1.5, abs=0.11)


def test_a_clip_whose_stamps_jump_is_measured_as_it_plays_and_flagged(tmp_path):
    with (tmp_path / "joined.ts").open("wb") as joined:
        for level in (0.1, 0.2):
            part = tmp_path / "part.ts"
            record(part, jumping(10, 2, [1.0]), level * 10 * noise(2.0), RATE)
            joined.write(part.read_bytes())
    found = measured(tmp_path / "joined.ts", Analysis(32))
    assert "jumps" in flags_of(found)
    assert found.facts["frames"] == 40
    assert found.facts["audio"][1] - found.facts["audio"][0] == pytest.approx(4, abs=0.15)  # and a codec's padding
    assert health_of([found], 0)["jumps"] == 1


def test_the_tail_that_a_codec_adds_is_no_sound_of_the_clip(tmp_path):
    path = record(tmp_path / "a.mp4", jumping(10, 1, [0.5]), noise(1.0))
    found = measured(path)
    assert found.facts["audio"][1] - found.facts["audio"][0] == pytest.approx(1.0, abs=1e-3)
    assert len(found.envelope) == 1 + 22050 // 512
    assert abs(gap_of(found)) < 2e-3


def test_native_analysis_takes_every_frame_at_its_own_time():
    found = measured(ASSETS / "mmd_aist_13.mp4", Analysis(None, None))
    assert (len(found.motion), found.match_window) == (16, pytest.approx(0.1))
    assert found.facts["height"] == found.facts["width"] == 256


def test_one_frame_silence_and_stillness_are_no_reason_to_fail(tmp_path):
    one = measured(record(tmp_path / "one.mp4", [(0.0, flat(90))], noise(1.0)))
    assert len(one.motion) == 1
    still = measured(
        record(tmp_path / "still.mp4", [(k / 10, flat(90)) for k in range(10)], np.zeros((1, RATE), np.float32))
    )
    assert flags_of(still) == ["silent", "still"]
    assert health_of([one, still], 1)["unusable"] == 1
    loud = record(tmp_path / "loud.mkv", jumping(10, 1, [0.5]), np.sign(noise(1.0)), codecs=("libx264", "pcm_s16le"))
    assert "clipped" in flags_of(measured(loud))


def test_what_is_kept_is_what_was_found(tmp_path):
    path = ASSETS / "synth_sync_10.mp4"
    how = Measuring(Analysis(height=32), Cache(tmp_path))
    ((found,), (again,)) = (measure_clips([path], how, "clips", 0, Ranks()).clips for _ in range(2))
    assert again.facts == found.facts == measured(path).facts
    assert all(np.array_equal(getattr(again, name), getattr(found, name)) for name in ("times", "motion", "onsets"))
    assert all(torch.equal(again.features[name], found.features[name]) for name in found.features)
    assert how.cache.get(found.digest, how.analysis.name) is not None
    assert how.cache.get(found.digest, "b") is None
    next(tmp_path.rglob("*.npz")).write_bytes(b"cut short")
    assert how.cache.get(found.digest, how.analysis.name) is None


SHAPE = ClipShape(12, Fraction(8), 48, 64)


def window(clip):
    """Return what a further analysis is given, so that it can be looked at."""
    return {"video": clip.video.numpy(), "audio": clip.audio.numpy()}


def late_video(folder):
    return record(folder / "late.mp4", jumping(20, 3, [0.5, 1.2]), noise(3.0), move_video=lambda t: t + 0.26)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_a_further_analysis_gets_what_reading_the_clip_by_itself_gives(tmp_path, rate):
    wave = 0.1 * np.random.default_rng(0).standard_normal((1, 3 * rate)).astype(np.float32)
    path = record(tmp_path / "a.mp4", jumping(25, 3, [0.5, 1.2]), wave, rate=rate)
    for clip in (path, late_video(tmp_path), ASSETS / "mmd_aist_13.mp4"):
        found = measure_clip(clip, Analysis(height=32), FurtherAnalysis("window", SHAPE, window)).further
        alone = read_clip(clip, None, SHAPE.frames, SHAPE.fps, SHAPE.height, SHAPE.width, 16000)
        assert np.array_equal(found["video"], alone.video.numpy())
        assert np.array_equal(found["audio"], alone.audio.numpy())


def test_each_stream_is_decoded_once_whatever_is_found_in_it(tmp_path, monkeypatch):
    path, opened, real = late_video(tmp_path), [], av.open
    monkeypatch.setattr(av, "open", lambda *arguments, **named: opened.append(1) or real(*arguments, **named))
    how = Measuring(Analysis(height=32), Cache(tmp_path / "cache"), FurtherAnalysis("window", SHAPE, window))
    (found,) = measure_clips([path], how, "clips", 0, Ranks()).clips
    assert len(opened) == 3  # its packets' stamps, its video, its audio
    (again,) = measure_clips([path], how, "clips", 0, Ranks()).clips
    assert len(opened) == 3
    assert np.array_equal(again.further["video"], found.further["video"])
    assert found.facts == measure_clip(path, how.analysis).facts


def test_a_clip_too_short_for_a_further_analysis_is_unusable(tmp_path):
    path = record(tmp_path / "short.mp4", jumping(10, 1, [0.5]), noise(1.0))
    how = Measuring(Analysis(height=32), Cache(None), FurtherAnalysis("window", SHAPE, window))
    ((_, reason),) = measure_clips([path], how, "clips", 1.0, Ranks()).bad
    assert reason.startswith("video covers 0.000-")
    assert not measure_clips([path], Measuring(how.analysis, how.cache), "clips", 0, Ranks()).bad


def broken_folder(folder):
    """Make one usable clip and one of each kind that is not; return the words that must be said of each."""
    folder.mkdir()
    good = (ASSETS / "mmd_aist_13.mp4").read_bytes()
    (folder / "good.mp4").write_bytes(good)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("no video")
    (folder / "cut.mp4").write_bytes(good[: len(good) // 2])
    (folder / "folder.mp4").mkdir()
    record(folder / "mute.mp4", jumping(10, 1, [0.5]))
    record(folder / "blind.mp4", sound=noise(1.0))
    return {
        "empty.mp4": "corrupt, cut short or no media file",
        "text.mp4": "corrupt, cut short or no media file",
        "cut.mp4": "cut short|corrupt",
        "folder.mp4": "is a directory",
        "mute.mp4": "no audio stream",
        "blind.mp4": "no video stream",
    }


def test_every_unusable_clip_is_named_with_its_reason_and_fails_only_above_the_share(tmp_path):
    reasons = broken_folder(tmp_path / "videos")
    paths = list_clips(tmp_path / "videos")
    how = Measuring(Analysis(height=32), Cache(None))
    found = measure_clips(paths, how, "videos", 6 / 7, Ranks())
    assert [one.path.name for one in found.clips] == ["good.mp4"]
    assert {path.name for path, _ in found.bad} == reasons.keys()
    assert all(re.search(reasons[path.name], why) for path, why in found.bad)
    with pytest.raises(DataError, match="videos: 6 of 7 clips cannot be used"):
        measure_clips(paths, how, "videos", 0.8, Ranks())


@pytest.mark.usefixtures("in_empty_folder")
def test_folders_are_compared_without_a_recipe(capsys, tmp_path):
    reasons = broken_folder(tmp_path / "videos")
    for k in range(3):
        video = torch.rand(3, 16, 32, 32, generator=torch.Generator().manual_seed(k)) * 2 - 1
        write_mp4(tmp_path / "videos" / f"{k}.mp4", video, torch.from_numpy(noise()), 10, RATE)
    arguments = ["eval", "--samples", "videos", "--reference", str(ASSETS), "--json"]
    assert mmdisco(arguments) == ExitCode.DATA
    assert "videos/mute.mp4: no audio stream" in capsys.readouterr().err
    assert mmdisco([*arguments, "--max-bad", "0.7"]) == ExitCode.OK
    found = json.loads(capsys.readouterr().out)
    assert (found["recipe"], found["n"]) == (None, 4)
    assert {Path(bad["path"]).name for bad in found["protocol"]["unusable"]} == reasons.keys()
    assert found["metrics"]["health"]["samples"]["unusable"] == 6
    assert found["metrics"]["fd_logmel"]["samples"].items() >= {"n": 4, "n_reference": 5, "dimension": 128}.items()
    rows = list(csv.DictReader((tmp_path / "runs/eval/clips.csv").read_text().splitlines()))
    assert len(rows) == 4 + 5
    scores = [float(row["av_align"]) for row in rows if row["row"] == "real" and row["av_align"]]
    assert sum(scores) / len(scores) == pytest.approx(found["metrics"]["av_align"]["real"]["value"])
    # The same again, from what was kept, with files renamed so that they come in another order.
    for path in sorted((tmp_path / "videos").glob("[0-9].mp4")):
        path.rename(path.with_stem(f"{9 - int(path.stem)}"))
    assert mmdisco([*arguments, "--max-bad", "0.7"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["metrics"] == found["metrics"]


def test_a_clip_slower_than_the_analysis_says_so(tmp_path):
    path = record(tmp_path / "slow.mp4", jumping(5, 2, [1.0]), noise(2.0))
    found = measured(path)
    assert "slow" in flags_of(found)
    # Its own frames are taken, none twice, and a frame is what lies between them.
    assert (len(found.times), found.match_window) == (10, pytest.approx(0.2))
    assert "slow" not in flags_of(measured(path, Analysis(32, Fraction(5))))


def test_a_click_is_heard_where_it_is(tmp_path):
    path = record(tmp_path / "click.mp4", jumping(10, 2, [1.0]), pulse(44100, 2.0, 1.0), rate=44100)
    assert measured(path).onsets == pytest.approx([1.0], abs=0.025)
