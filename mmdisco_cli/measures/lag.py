"""By how much audio comes after motion: the lag at which onset envelope and motion correlate best.

A definition of this project. Both curves are read off on a grid of 200 Hz; a motion belongs to the later of the two
frames that show it, as in AV-Align, an onset half a hop before the frame that shows it. The correlation is Pearson's
over what overlaps, so that loudness and size do not count.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mmdisco_cli.measures.motion import LEAST_MOTION
from mmdisco_cli.measures.onsets import HOP, ONSET_RATE

GRID = 200
LONGEST = 0.3
"""Seconds by which audio may come before or after video."""
LEAST_OVERLAP = 0.4
DEFINITION = "lag within 0.3 s that maximises Pearson's correlation of onset envelope and optical flow, on 200 Hz"
Curve = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Lag:
    """The best lag in seconds, positive where the audio is late, and the correlation there."""

    seconds: float
    correlation: float


def best_lag(motion: Curve, motion_times: Curve, envelope: Curve, audio_start: float) -> Lag | None:
    """Return the lag of an onset envelope at 22050 Hz behind the motion (T,) shown at `motion_times`.

    None where nothing moves or sounds, or both have less than 0.4 s in common.
    """
    if len(motion) < 3 or len(envelope) < 3 or motion.max() < LEAST_MOTION:
        return None
    moved = motion_times[1:]
    rise_times = audio_start + (np.arange(len(envelope)) - 0.5) * HOP / ONSET_RATE
    begin, end = max(moved[0], rise_times[0]), min(moved[-1], rise_times[-1])
    grid = np.arange(begin, end, 1 / GRID)
    if end - begin < LEAST_OVERLAP:
        return None
    flow, rise = np.interp(grid, moved, motion[1:]), np.interp(grid, rise_times, envelope)
    most = min(round(LONGEST * GRID), len(grid) - round(LEAST_OVERLAP * GRID))
    scores = {lag: _correlation(*_overlap(flow, rise, lag)) for lag in range(-most, most + 1)}
    known = {lag: score for lag, score in scores.items() if score is not None}
    if not known:
        return None
    # Of equal correlations the smallest lag counts.
    best = max(known, key=lambda lag: (round(known[lag], 9), -abs(lag)))
    return Lag(best / GRID, known[best])


def _overlap(flow: Curve, rise: Curve, lag: int) -> tuple[Curve, Curve]:
    """Return the parts that lie upon each other when the audio is `lag` steps late."""
    steps = len(flow) - abs(lag)
    return flow[max(0, -lag) :][:steps], rise[max(0, lag) :][:steps]


def _correlation(x: Curve, y: Curve) -> float | None:
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / norm if norm > 1e-9 else None
