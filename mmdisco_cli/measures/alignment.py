"""Alignment of a set of clips: AV-Align beside its level for mismatched pairs, and by how much audio is late."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmdisco_cli.measures.av_align import RULES, Peaks, av_align, chances
from mmdisco_cli.measures.bootstrap import estimate, mean_of
from mmdisco_cli.measures.clip import MeasuredClip
from mmdisco_cli.measures.lag import best_lag
from mmdisco_cli.measures.motion import motion_peaks

METRICS = ("av_align", "av_align_chance", "av_align_gain", "av_lag")
LEAST_FRAMES = 3
"""Frames that it takes for one to move more than both its neighbours."""


@dataclass(frozen=True)
class Aligned:
    """One clip: its score, that of its video with others' audio, lag in seconds, correlation; None: undefined."""

    score: float | None
    chance: float | None
    lag: float | None
    correlation: float | None

    @property
    def gain(self) -> float | None:
        """Return the score less that of chance."""
        return None if self.score is None or self.chance is None else self.score - self.chance


def peaks_of(clip: MeasuredClip, rule: str) -> Peaks:
    """Return what AV-Align compares of a clip."""
    chosen = RULES[rule]
    onsets = clip.own_onsets if chosen.own_rate else clip.onsets
    moving = [float(clip.times[i]) for i in motion_peaks(clip.motion.tolist(), chosen.least_motion)]
    return Peaks(onsets.tolist(), moving, clip.match_window, clip.stop)


def align_clips(clips: Sequence[MeasuredClip], rule: str) -> list[Aligned]:
    """Return the alignment of each clip of a set, whose order should be canonical."""
    peaks = [peaks_of(clip, rule) for clip in clips]
    chance = chances(peaks, RULES[rule])
    return [_aligned(*row, rule) for row in zip(clips, peaks, chance, strict=True)]


def alignment_metrics(rows: Mapping[str, Sequence[Aligned]], seed: int, chosen: Collection[str]) -> dict[str, Any]:
    """Return for each row the mean of each chosen measure with its interval, and over how many clips it is defined."""
    each: dict[str, Callable[[Aligned], float | None]] = {
        "av_align": lambda one: one.score,
        "av_align_chance": lambda one: one.chance,
        "av_align_gain": lambda one: one.gain,
        "av_lag": lambda one: one.lag,
    }
    return {
        name: {row: _figure([take(one) for one in clips], seed) for row, clips in rows.items()}
        for name, take in each.items()
        if name in chosen
    }


def _figure(values: Sequence[float | None], seed: int) -> dict[str, Any]:
    defined = sum(value is not None for value in values)
    found = estimate(mean_of(values), seed).as_json() if values else dict.fromkeys(("value", "low", "high"))
    return {**found, "n": defined, "undefined": len(values) - defined}


def _aligned(clip: MeasuredClip, peaks: Peaks, chance: float | None, rule: str) -> Aligned:
    lag = best_lag(clip.motion, clip.times, clip.envelope, float(clip.facts["audio"][0]))
    score = av_align(peaks, RULES[rule]) if len(clip.motion) >= LEAST_FRAMES else None
    return Aligned(score, chance, *((lag.seconds, lag.correlation) if lag else (None, None)))
