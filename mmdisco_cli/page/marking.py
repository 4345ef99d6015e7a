"""What a gallery marks on the time axis of a clip: onsets and motion, or the events that a protocol measures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from mmdisco_cli.errors import DataError
from mmdisco_cli.measures.alignment import DEFAULT_RULE, RULES, av_align, chances, peaks_of
from mmdisco_cli.measures.analysis import Analysis
from mmdisco_cli.measures.clip import FurtherAnalysis, MeasuredClip, measure_clip


@dataclass(frozen=True)
class Marks:
    """Times in seconds that are marked of a clip, in its video and in its audio, and figures of it by name."""

    seen: Sequence[float]
    heard: Sequence[float]
    values: Mapping[str, float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Marking:
    """What marks are called, and how they are found in a measured clip, and what is to be measured for them."""

    seen: str
    heard: str
    find: Callable[[MeasuredClip], Marks]
    further: FurtherAnalysis | None = None


@dataclass(frozen=True)
class Marked:
    """The clips of a page: the marks of each, with AV-Align and what it is on average with other clips' audio."""

    marks: Mapping[Path, Marks]

    def of(self, path: Path) -> Marks:
        """Return the marks of a clip; none of one that cannot be measured, which says why in place of its drawings."""
        return self.marks.get(path, Marks((), ()))


def motion_and_onsets(clip: MeasuredClip) -> Marks:
    """Return what AV-Align compares."""
    peaks = peaks_of(clip, DEFAULT_RULE)
    return Marks(peaks.motion, peaks.onsets, {"motion_peaks": len(peaks.motion), "onsets": len(peaks.onsets)})


MARKING = Marking("motion peaks", "onsets", motion_and_onsets)


def mark(rows: Mapping[str, Sequence[Path]], marking: Marking) -> Marked:
    """Return the marks of the clips of each row; chance is that of a row, as in a report."""
    found: dict[Path, Marks] = {}
    for paths in rows.values():
        clips = [clip for path in dict.fromkeys(paths) if (clip := _now(path, marking.further)) is not None]
        clips.sort(key=lambda clip: (clip.digest, clip.path))
        by_chance = chances([peaks_of(clip, DEFAULT_RULE) for clip in clips], RULES[DEFAULT_RULE])
        for clip, chance in zip(clips, by_chance, strict=True):
            found[clip.path] = _with_alignment(clip, marking.find(clip), chance)
    return Marked(found)


def _with_alignment(clip: MeasuredClip, marks: Marks, chance: float | None) -> Marks:
    score = av_align(peaks_of(clip, DEFAULT_RULE), RULES[DEFAULT_RULE])
    return Marks(marks.seen, marks.heard, {**marks.values, "av_align": score, "av_align_chance": chance})


def _now(path: Path, further: FurtherAnalysis | None) -> MeasuredClip | None:
    """Return a clip measured as it is now."""
    try:
        return _measured(path, path.stat().st_mtime_ns, further)
    except OSError:
        return None


@lru_cache(maxsize=1024)
def _measured(path: Path, written: int, further: FurtherAnalysis | None) -> MeasuredClip | None:
    """Return a clip measured, once for both pages of a guided and an independent run that are written together."""
    try:
        return measure_clip(path, Analysis(), further)
    except DataError:
        return None
