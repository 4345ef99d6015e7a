"""What is odd about a clip as a file, whatever it shows: silence, a still video, streams of different length."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from mmdisco_cli.measures.clip import MeasuredClip

SILENT = 1e-4
"""Peak at or below which audio counts as silence (-80 dB)."""
STILL = 3
"""Grey levels within which every pixel of an unmoving video stays."""
GAP = 0.1
"""Seconds by which streams may begin or end apart."""
CLIPPED = 1e-3
FLAGS = ("silent", "still", "clipped", "gap", "uneven", "slow", "jumps")


def gap_of(clip: MeasuredClip) -> float:
    """Return by how much the durations of the two streams differ, in seconds, positive where the audio is longer."""
    video, audio = clip.facts["video"], clip.facts["audio"]
    return float((audio[1] - audio[0]) - (video[1] - video[0]))


def flags_of(clip: MeasuredClip) -> list[str]:
    """Return those of `FLAGS` that hold.

    `uneven` frames vary in rate, `slow` ones are fewer than are analysed, `jumps` in time stamps were closed.
    """
    facts = clip.facts
    ends = [abs(facts["audio"][k] - facts["video"][k]) for k in (0, 1)]
    found = {
        "silent": facts["peak"] <= SILENT,
        "still": facts["range"] < STILL,
        "clipped": facts["clipped"] > CLIPPED,
        "gap": max(ends) > GAP,
        "uneven": facts["varies"],
        "slow": facts["slow"],
        "jumps": facts["jumps"],
    }
    return [flag for flag in FLAGS if found[flag]]


def health_of(clips: Sequence[MeasuredClip], bad: int) -> dict[str, Any]:
    """Return how many clips of a set have each flag, how many are unusable, and the largest gap in seconds."""
    counted = Counter(flag for one in clips for flag in flags_of(one))
    worst = max((abs(gap_of(one)) for one in clips), default=0.0)
    return {"n": len(clips), "unusable": bad, **{flag: counted[flag] for flag in FLAGS}, "largest_gap": round(worst, 4)}
