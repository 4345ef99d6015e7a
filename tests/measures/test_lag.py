"""The lag of audio behind video is found where it was put, and nowhere when nothing moves or sounds."""

import numpy as np
import pytest

from mmdisco_cli.measures.lag import best_lag
from mmdisco_cli.measures.onsets import HOP, ONSET_RATE

EVENTS = np.array([0.35, 0.9, 1.15, 1.9, 2.6])


def curves(late, fps=25.0, seconds=3.2):
    """Return motion and onsets of events, the audio `late` seconds after the video."""
    times = np.arange(round(seconds * fps)) / fps
    motion = sum(np.exp(-(((times - at) / 0.05) ** 2)) for at in EVENTS)
    centres = (np.arange(round(seconds * ONSET_RATE / HOP)) - 0.5) * HOP / ONSET_RATE
    envelope = sum(np.exp(-(((centres - at - late) / 0.02) ** 2)) for at in EVENTS)
    return motion, times, envelope


@pytest.mark.parametrize("late", [-0.2, -0.04, 0.0, 0.08, 0.25])
@pytest.mark.parametrize("fps", [10.0, 25.0])
def test_the_lag_is_how_late_the_sound_is(late, fps):
    found = best_lag(*curves(late, fps), 0.0)
    assert found.seconds == pytest.approx(late, abs=0.02)
    assert found.correlation > 0.5


def test_a_stream_that_starts_late_is_late():
    assert best_lag(*curves(0.0), 0.1).seconds == pytest.approx(0.1, abs=0.01)


def test_lag_beyond_reach_is_not_found():
    assert abs(best_lag(*curves(0.45), 0.0).seconds - 0.45) > 0.1


def test_nothing_that_moves_or_sounds_has_no_lag():
    motion, times, envelope = curves(0.0)
    assert best_lag(0 * motion, times, envelope, 0.0) is None
    assert best_lag(motion, times, 0 * envelope, 0.0) is None
    assert best_lag(motion[:2], times[:2], envelope, 0.0) is None
    assert best_lag(motion[:8], times[:8], envelope, 0.0) is None
