"""Alignment of onset and motion: found where it was put, and none where nothing moves or sounds."""

import pytest
import torch

from mmdisco_cli.data.bounce import Bounce
from mmdisco_cli.data.options import BounceOptions
from mmdisco_cli.evaluation.alignment import Tracks, alignments, best_lags, tracks_of

FPS = 10.0


def film(flashes, beeps):
    """Return a picture that brightens for one frame at each of `flashes` and a sound that begins at each of `beeps`."""
    video = torch.full((3, 16, 32, 32), -0.5)
    for frame in flashes:
        video[:, frame, 8:24, 8:24] = 0.8
    sound = torch.zeros(1, 25600)
    t = torch.arange(1600) / 16000
    for second in beeps:
        start = round(second * 16000)
        piece = torch.sin(2 * torch.pi * 700 * t) * torch.exp(-t / 0.02)
        sound[0, start : start + 1600] += piece[: 25600 - start]
    return video, sound


def test_motion_lies_between_the_frames_that_differ_and_onset_in_the_interval_in_which_it_begins():
    tracks = tracks_of(*film([4], [0.85]), FPS)
    assert tracks.motion.nonzero()[:, 0].tolist() == [3, 4]
    assert int(tracks.onset.argmax()) == 8


@pytest.mark.parametrize("late", [-2, 0, 1, 3])
def test_the_lag_is_how_late_the_sound_is(late):
    motion = torch.zeros(1, 15, dtype=torch.float64)
    motion[0, [4, 7, 9]] = torch.tensor([1.0, 2.0, 1.5], dtype=torch.float64)
    value, lag = best_lags(motion, motion.roll(late, 1), 3)
    assert float(value) == pytest.approx(1)
    assert float(lag) == late


def test_lag_beyond_reach_is_not_found():
    motion = torch.zeros(1, 15, dtype=torch.float64)
    motion[0, 4] = 1
    assert float(best_lags(motion, motion.roll(6, 1), 3)[0]) < 0.5


def test_silent_and_still_films_have_no_alignment_and_take_no_part_in_chance():
    moving, still, silent = film([5], [0.42]), film([], [0.4]), film([5], [])
    other = film([13], [1.23])
    found = alignments([tracks_of(*one, FPS) for one in (moving, still, silent, other)], FPS)
    assert found[1] is None
    assert found[2] is None
    assert found[0].value > 0.65
    assert found[0].value > found[0].chance + 0.3


def test_real_films_are_above_their_own_mismatched_pairs():
    data = Bounce(BounceOptions())
    tracks = []
    for index in range(24):
        media = data.media([index], ("audio", "video"))
        tracks.append(tracks_of(media["video"][0], media["audio"][0], FPS))
    found = alignments(tracks, FPS)
    gain = torch.tensor([one.value - one.chance for one in found])
    assert float(gain.mean()) > 3 * float(gain.std()) / len(gain) ** 0.5


def test_a_single_film_has_no_chance_level():
    assert alignments([], FPS) == []
    (only,) = alignments([Tracks(torch.arange(9.0).double().square(), torch.arange(9.0).double().square())], FPS)
    assert only.value == pytest.approx(1)
    assert only.chance != only.chance
