"""What a report says first: whether guidance helped, what it cost in quality, and on what evidence.

All of it is read from the figures of the report alone, whatever protocol they come from: of each measure of alignment
that compares rows, `difference` is that of guided less independent samples of the same noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmdisco_cli.evaluation.compare import count_of, figures
from mmdisco_cli.evaluation.tables import cell
from mmdisco_cli.evaluation.verdict.quality import judge_quality
from mmdisco_cli.measures.bootstrap import LEAST
from mmdisco_cli.measures.scoring import ScoredClip
from mmdisco_cli.page.naming import begun

AUDIO_VIDEO = "audio and video"


@dataclass(frozen=True)
class Leading:
    """A measure of alignment that may decide: what it is called and of, and the column of clips that it is a mean of.

    `chance` says that 0 is what mismatched pairs reach, so that a row can be judged by itself.
    """

    name: str
    of: str = AUDIO_VIDEO
    column: str = ""
    chance: bool = False

    @property
    def title(self) -> str:
        """Return its name as a sentence begins."""
        return begun(self.name)


LEADING = {
    "event_iou": Leading("events in both video and audio", column="event_iou"),
    "agreement": Leading("samples whose modalities agree", "modalities", "agreement"),
    "mass_on_modes": Leading("samples on the modes of the joint distribution", "modalities"),
    "av_align_gain": Leading("AV-Align above mismatched pairs", column="av_align_gain", chance=True),
}
"""Measures that decide, the first that is there."""


@dataclass(frozen=True)
class Conclusion:
    """What is said, what it rests on, whether it is good news (None: neither), and the metric that decided.

    `quality` is what the part about quality rests on, empty where nothing says anything of it.
    """

    says: str
    because: str
    good: bool | None
    metric: str | None
    quality: str = ""

    @property
    def lines(self) -> list[str]:
        """Return all of it as lines."""
        return [line for line in (self.says, self.because, self.quality) if line]


def conclude(metrics: Mapping[str, Any]) -> Conclusion:
    """Return the conclusion of a report from its figures."""
    metric = next((name for name in LEADING if isinstance(metrics.get(name), Mapping)), None)
    if metric is None:
        return Conclusion("No conclusion: none of the measures that it is drawn from was taken.", "", None, None)
    rows = metrics[metric]
    if {"guided", "independent"} <= rows.keys():
        return _with_quality(_guidance(metric, rows), metrics)
    return _above_chance(metric, rows) if LEADING[metric].chance else _by_itself(metric, rows)


def with_differences(metrics: Mapping[str, Any], clips: Sequence[ScoredClip], seed: int) -> dict[str, Any]:
    """Return figures of clips with what guided and independent ones of the same name differ by in what may decide."""
    found = dict(metrics)
    for name, leading in LEADING.items():
        if leading.column and {"guided", "independent"} <= found.get(name, {}).keys():
            found[name] = {**found[name], "difference": paired(clips, leading.column, seed)}
    return found


def paired(clips: Sequence[ScoredClip], column: str, seed: int) -> dict[str, Any]:
    """Return how far guided clips are above independent ones of the same name.

    `pairs` is the number of names that both have, `n` that of pairs of which neither value is undefined.
    """
    by_name: dict[str, dict[str, float | None]] = {}
    for clip in clips:
        by_name.setdefault(clip.name, {})[clip.row] = clip.values.get(column)
    both = sorted((name, found) for name, found in by_name.items() if {"guided", "independent"} <= found.keys())
    values = [(found["independent"], found["guided"]) for _, found in both]
    return {**difference_of(values, seed), "pairs": len(values)}


def difference_of(pairs: Sequence[tuple[float | None, float | None]], seed: int) -> dict[str, Any]:
    """Return the mean of second less first over samples of the same noise, with its interval and their number."""
    found = figures(pairs, seed)
    return {**(found["difference"] or dict.fromkeys(("value", "low", "high"))), "n": found["n"]}


def _guidance(metric: str, rows: Mapping[str, Any]) -> Conclusion:
    leading, found = LEADING[metric], rows.get("difference") or {"value": None, "n": 0}
    because = (
        f"{leading.title}: {cell(rows['independent'])} independent, {cell(rows['guided'])} "
        "guided" + (f", {cell(rows['real'])} in real ones" if rows.get("real") else "")
        + "."
    )  # fmt: skip
    if found["n"]:
        because += f" Difference of samples of the same noise: {cell(found)}, over {count_of(found['n'])}"
        because += ", 95 % interval." if found.get("low") is not None else "."
    closed = rows.get("gap_closed")
    if closed and closed.get("value") is not None:
        because += f" Of the gap to real ones {_percent(closed)} is closed."
    low, high = found.get("low"), found.get("high")
    if found["n"] < LEAST:
        return Conclusion(_too_few(leading, found), because, None, metric)
    if low is None or high is None or low <= 0 <= high:
        return Conclusion("Whether guidance helped alignment is not certain from these samples.", because, None, metric)
    if low > 0:
        return Conclusion(f"Guidance helped: {leading.of} belong together more often", because, True, metric)
    return Conclusion(f"Guidance did harm: {leading.of} belong together less often", because, False, metric)


def _too_few(leading: Leading, found: Mapping[str, Any]) -> str:
    """Say that there are too few pairs, and whether that is for want of names or of values."""
    pairs = found.get("pairs", found["n"])
    if not pairs:
        return "No guided sample has an independent one of its name, so nothing shows whether guidance helped."
    if pairs < LEAST:
        return f"Too few pairs to tell whether guidance helped: it takes {LEAST}."
    return _too_rarely_defined(leading, found["n"], count_of(pairs), "guidance helped")


def _too_rarely_defined(leading: Leading, n: int, of: str, question: str) -> str:
    return f"{leading.title} is defined in {n or 'none'} of {of}, too few to tell whether {question}: it takes {LEAST}."


def _with_quality(found: Conclusion, metrics: Mapping[str, Any]) -> Conclusion:
    """Return a conclusion about alignment with what the same report says about quality, if anything."""
    quality = judge_quality(metrics)
    open_ended = found.good is not None
    if quality is None:
        return Conclusion(found.says + ("." if open_ended else ""), found.because, found.good, found.metric)
    ending = quality.after(helped=bool(found.good))
    says = f"{found.says}, {ending}." if open_ended else f"{found.says} {quality.alone}"
    # What helped at a cost is neither good nor bad news.
    good = None if found.good and quality.worse else found.good
    return Conclusion(says, found.because, good, found.metric, quality.because)


def _above_chance(metric: str, rows: Mapping[str, Any]) -> Conclusion:
    _, because, figure = _one_row(metric, rows)
    low = figure.get("low")
    if figure.get("n", LEAST) < LEAST:
        question, clips = "audio and video belong together", figure["n"] + figure.get("undefined", 0)
        says = f"Too few clips to tell whether {question}: it takes {LEAST}."
        if clips >= LEAST:
            says = _too_rarely_defined(LEADING[metric], figure["n"], f"{clips} clips", question)
        return Conclusion(says, because, None, metric)
    if low is None or low <= 0:
        return Conclusion("Audio and video match no better than those of different clips.", because, None, metric)
    return Conclusion("Audio and video belong together, more than by chance.", because, True, metric)


def _by_itself(metric: str, rows: Mapping[str, Any]) -> Conclusion:
    row, because, _ = _one_row(metric, rows)
    says = f"How well {LEADING[metric].of} belong together is measured of {row} alone."
    return Conclusion(says, because, None, metric)


def _one_row(metric: str, rows: Mapping[str, Any]) -> tuple[str, str, Mapping[str, Any]]:
    row = next((name for name in ("samples", "guided", "real") if name in rows), next(iter(rows)))
    because = f"{LEADING[metric].title}: {cell(rows[row])} in {row}"
    because += f", {cell(rows['real'])} in real clips." if rows.get("real") and row != "real" else "."
    return row, because, rows[row]


def _percent(closed: Mapping[str, Any]) -> str:
    shown = f"{100 * closed['value']:.0f} %"
    return shown if closed.get("low") is None else f"{shown} [{100 * closed['low']:.0f}, {100 * closed['high']:.0f}]"
