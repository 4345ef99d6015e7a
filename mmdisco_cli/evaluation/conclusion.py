"""What a report says first: whether guidance helped, and on what evidence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmdisco_cli.evaluation.compare import count_of, figures
from mmdisco_cli.evaluation.tables import cell
from mmdisco_cli.measures.bootstrap import LEAST
from mmdisco_cli.measures.scoring import ScoredClip

LEADING = {
    "event_iou": ("events in both video and audio", "event_iou"),
    "av_align_gain": ("AV-Align above mismatched pairs", "av_align_gain"),
}
"""Metrics that decide, the first that is there: what they are called, and the column of clips they are means of."""


@dataclass(frozen=True)
class Conclusion:
    """One sentence, what it rests on, whether it is good news (None: neither), and the metric that decided."""

    says: str
    because: str
    good: bool | None
    metric: str | None


def conclude(metrics: Mapping[str, Any], clips: Sequence[ScoredClip], seed: int) -> Conclusion:
    """Return the conclusion of a report."""
    metric = next((name for name in LEADING if metrics.get(name)), None)
    if metric is None:
        return Conclusion("Nothing here decides whether audio and video belong together.", "", None, None)
    rows = metrics[metric]
    if {"guided", "independent"} <= rows.keys():
        return _guidance(metric, rows, clips, seed)
    return _above_chance(metric, rows)


def paired(clips: Sequence[ScoredClip], column: str, seed: int) -> dict[str, Any]:
    """Return the figures of independent (a) and guided (b) clips of the same name and of their difference."""
    by_name: dict[str, dict[str, float | None]] = {}
    for clip in clips:
        by_name.setdefault(clip.name, {})[clip.row] = clip.values.get(column)
    both = sorted((name, found) for name, found in by_name.items() if {"guided", "independent"} <= found.keys())
    return figures([(found["independent"], found["guided"]) for _, found in both], seed)


def _guidance(metric: str, rows: Mapping[str, Any], clips: Sequence[ScoredClip], seed: int) -> Conclusion:
    name, column = LEADING[metric]
    found = paired(clips, column, seed)
    difference = found["difference"] or {"value": None, "low": None, "high": None}
    low, high = difference["low"], difference["high"]
    because = (
        f"{name[0].upper()}{name[1:]}: {cell(rows['independent'])} independent, {cell(rows['guided'])} guided"
        + (f", {cell(rows['real'])} in real clips" if rows.get("real") else "")
        + f". Difference of clips of the same noise: {cell(difference)}, over {count_of(found['n'])}, 95 % interval."
    )
    closed = rows.get("gap_closed")
    if closed and closed.get("value") is not None:
        because += f" Of the gap to real clips {_percent(closed)} is closed."
    if found["n"] < LEAST:
        return Conclusion(f"Too few pairs to tell whether guidance helped: it takes {LEAST}.", because, None, metric)
    if low is None or low <= 0 <= high:
        return Conclusion("Whether guidance helped is not certain from these clips.", because, None, metric)
    if low > 0:
        return Conclusion("Guidance helped: audio and video belong together more often.", because, True, metric)
    return Conclusion("Guidance did harm: audio and video belong together less often.", because, False, metric)


def _above_chance(metric: str, rows: Mapping[str, Any]) -> Conclusion:
    row = next((name for name in ("samples", "guided", "real") if name in rows), next(iter(rows)))
    name, _ = LEADING[metric]
    figure = rows[row]
    because = f"{name[0].upper()}{name[1:]}: {cell(figure)} in {row}"
    because += f", {cell(rows['real'])} in real clips." if rows.get("real") and row != "real" else "."
    low = figure.get("low")
    if figure.get("n", LEAST) < LEAST:
        says = f"Too few clips to tell whether audio and video belong together: it takes {LEAST}."
        return Conclusion(says, because, None, metric)
    if low is None or low <= 0:
        return Conclusion("Audio and video match no better than those of different clips.", because, None, metric)
    return Conclusion("Audio and video belong together, more than by chance.", because, True, metric)


def _percent(closed: Mapping[str, Any]) -> str:
    shown = f"{100 * closed['value']:.0f} %"
    return shown if closed.get("low") is None else f"{shown} [{100 * closed['low']:.0f}, {100 * closed['high']:.0f}]"
