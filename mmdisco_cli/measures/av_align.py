"""AV-Align by any of its three published rules, and what the same audio and video score when they are mismatched.

Yariv et al., "Diverse and Aligned Audio-to-Video Generation via Text-to-Video Model Adaptation" (arXiv 2309.16429)
counts onsets of audio that lie within a frame of a peak of optical flow, over all onsets and peaks. Its published code,
its correction of 2025 and its use by JavisBench differ, and so do their scores: a score without its rule means nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from mmdisco_cli.measures.motion import LEAST_MOTION


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
