"""Whether sound begins where the picture moves, for clips of which nothing is known.

Not AV-Align: the best correlation, over a few lags, of the onset envelope with the energy of frame differences. In
clips this short matched and mismatched pairs score much alike, so the mismatched ones are always measured too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmdisco_cli.evaluation.features import HOP, SAMPLE_RATE, log_mel

LONGEST_LAG = 0.3
"""Seconds by which sound may come before or after the picture."""
LEAST_OVERLAP = 4
DEFINITION = "best correlation within 0.3 s of the log-mel spectrum's rise and the |difference| of adjacent frames"


@dataclass(frozen=True)
class Tracks:
    """What moves and what begins to sound between adjacent frames, (T - 1,) each."""

    motion: Tensor
    onset: Tensor


@dataclass(frozen=True)
class Alignment:
    """One clip's best correlation, the lag in seconds (positive: sound late), and its mean with other clips' halves."""

    value: float
    lag: float
    chance: float


def tracks_of(video: Tensor, sound: Tensor, fps: float) -> Tracks:
    """Return the tracks of a clip (3, T, H, W) with sound (C, S) at 16 kHz."""
    motion = video.diff(dim=1).abs().mean((0, 2, 3))
    rise = log_mel(sound).diff(dim=1).clamp_min(0).mean(0)
    # Rise k lies between mel frames k and k + 1; interval j between video frames j and j + 1.
    interval = ((torch.arange(len(rise)) + 1) * HOP / SAMPLE_RATE * fps).long()
    inside = interval < len(motion)
    onset = torch.zeros(len(motion)).scatter_add_(0, interval[inside], rise[inside])
    return Tracks(motion.double(), onset.double())


def best_lags(motion: Tensor, onset: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return the best correlation and its lag in steps, (N, M), of motion tracks (N, K) with onset tracks (M, K).

    NaN where a track is constant over every overlap of at least 4 steps.
    """
    steps = motion.shape[1]
    lags = [lag for lag in range(-most, most + 1) if steps - abs(lag) >= LEAST_OVERLAP]
    if not lags:
        empty = torch.full((len(motion), len(onset)), torch.nan, dtype=torch.float64)
        return empty, empty
    # Nearest first, so that of equal correlations the smallest lag counts.
    lags.sort(key=abs)
    scores = torch.stack([_correlations(*_overlap(motion, onset, lag)) for lag in lags])
    best, place = scores.nan_to_num(-torch.inf).max(0)
    lag = torch.tensor(lags, dtype=torch.float64)[place]
    known = best.isfinite()
    return best.where(known, torch.nan), lag.where(known, torch.nan)


def alignments(tracks: Sequence[Tracks], fps: float) -> list[Alignment | None]:
    """Return each clip's alignment and that of its halves with all other clips' halves; None where undefined."""
    if not tracks:
        return []
    motion, onset = (torch.stack([getattr(track, name) for track in tracks]) for name in ("motion", "onset"))
    score, lag = best_lags(motion, onset, round(LONGEST_LAG * fps))
    others = score.clone().fill_diagonal_(torch.nan)
    chance = torch.cat([others, others.T], dim=1).nanmean(1)
    return [
        Alignment(float(score[i, i]), float(lag[i, i]) / fps, float(chance[i]))
        if bool(score[i, i].isfinite())
        else None
        for i in range(len(tracks))
    ]


def _overlap(motion: Tensor, onset: Tensor, lag: int) -> tuple[Tensor, Tensor]:
    """Return the parts that lie upon each other when the sound is `lag` steps late."""
    steps = motion.shape[1] - abs(lag)
    return motion[:, max(0, -lag) :][:, :steps], onset[:, max(0, lag) :][:, :steps]


def _correlations(x: Tensor, y: Tensor) -> Tensor:
    return _unit(x) @ _unit(y).T


def _unit(x: Tensor) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    norm = centred.norm(dim=1, keepdim=True)
    unit: Tensor = centred / norm.where(norm > 1e-6, torch.nan)
    return unit
