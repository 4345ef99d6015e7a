"""Alignment of clips: AV-Align by its three published rules, its level for mismatched pairs, and the lag of audio.

Yariv et al., "Diverse and Aligned Audio-to-Video Generation via Text-to-Video Model Adaptation" (arXiv 2309.16429)
counts onsets of audio that lie within a frame of a peak of optical flow, over all onsets and peaks. Its published code,
its correction of 2025 and its use by JavisBench differ, and so do their scores: a score without its rule means nothing.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmdisco_cli.measures.bootstrap import estimate, mean_of
from mmdisco_cli.measures.clip import MeasuredClip
from mmdisco_cli.measures.lag import best_lag
from mmdisco_cli.measures.motion import LEAST_MOTION, motion_peaks

METRICS = ("av_align", "av_align_chance", "av_align_gain", "av_lag")
LEAST_FRAMES = 3
"""Frames that it takes for one to move more than both its neighbours."""


@dataclass(frozen=True)
class Rule:
    """Least motion of a peak in pixels, whether a peak can be matched once only, and what is added to the union.

    `own_rate` finds onsets at the file's own sample rate instead of 22050 Hz.
    """

    least_motion: float
    once: bool
    added: float
    own_rate: bool


RULES = {
    "tempotokens-2025": Rule(LEAST_MOTION, once=True, added=0.0, own_rate=False),
    "tempotokens-2023": Rule(0.0, once=False, added=0.0, own_rate=False),
    "javisbench": Rule(0.0, once=False, added=1e-6, own_rate=True),
}
DEFAULT_RULE = "tempotokens-2025"
MOST_PARTNERS = 32


@dataclass(frozen=True)
class Peaks:
    """Onsets of audio and peaks of motion, in seconds before `stop`; within `frame` seconds they match."""

    onsets: Sequence[float]
    motion: Sequence[float]
    frame: float
    stop: float = float("inf")


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


def av_align(peaks: Peaks, rule: Rule) -> float | None:
    """Return the score of a clip, None where nothing sounds and nothing moves."""
    return _score(peaks.onsets, peaks.motion, peaks.frame, rule)


def chances(clips: Sequence[Peaks], rule: Rule) -> list[float | None]:
    """Return what each clip's video scores on average with the audio of other clips of the set.

    Up to 33 clips meet all others, in a larger set each meets 32, evenly spread. Of clips that differ in length, only
    the common part counts. The pairs depend on the order of the clips, which should therefore be a canonical one.
    """
    count = len(clips)
    steps = _steps(count)
    return [_mean([_crossed(clips[i], clips[(i + step) % count], rule) for step in steps]) for i in range(count)]


def matched(onsets: Sequence[float], motion: Sequence[float], frame: float, *, once: bool) -> int:
    """Return how many onsets lie within a frame of a peak of motion, each taking the first that is free."""
    free, count = list(motion), 0
    for time in onsets:
        found = next((peak for peak in free if peak - frame < time < peak + frame), None)
        if found is not None:
            count += 1
            if once:
                free.remove(found)
    return count


def _score(onsets: Sequence[float], motion: Sequence[float], frame: float, rule: Rule) -> float | None:
    if not onsets and not motion:
        return None
    both = matched(onsets, motion, frame, once=rule.once)
    return both / (len(onsets) + len(motion) - both + rule.added)


def _crossed(video: Peaks, audio: Peaks, rule: Rule) -> float | None:
    stop = min(video.stop, audio.stop)
    onsets, motion = ([time for time in times if time < stop] for times in (audio.onsets, video.motion))
    return _score(onsets, motion, video.frame, rule)


def _steps(count: int) -> list[int]:
    most = min(MOST_PARTNERS, count - 1)
    return [1 + k * (count - 1) // most for k in range(most)] if most > 0 else []


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


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
