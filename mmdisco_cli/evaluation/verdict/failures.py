"""Signs in a report that guidance went wrong, each with what to try: modes were dropped, samples collapsed."""

from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist
from typing import Any

from mmdisco_cli.evaluation.tables import cell
from mmdisco_cli.measures.clip_sets import REAL
from mmdisco_cli.measures.scoring import ScoredClip
from mmdisco_cli.page.naming import spelt

LOST = 0.1
"""Share of the real clips' neighbourhoods that guidance must certainly have lost to be warned of."""
COLLAPSED = 0.6
"""Diversity that guided samples must certainly be below: real clips have 1."""
CLASSES = ("digit_share", "material_share", "mode_share")
"""Metrics that hold, by modality and row, the share of each class among `n` samples as a figure with its interval."""
RARE = 0.5
"""Share of what it is among independent samples below which a class counts as dropped, if that is certain."""
FALSE_ALARM = 0.05
"""How often a class at least would seem dropped by chance, over all classes of a report."""
TRY_MODES = "try a lower sample.guidance, a narrower sample.window, or weights of an earlier step of the training"
NOT_GUIDANCE = (
    "the independent ones are no farther apart, so that guidance is not the reason: look at the base models, "
    "their weights and sample.steps"
)
TRY_COLLAPSE = "try a lower sample.guidance, a sample.window that ends at a lower log-SNR, or a longer training"
ABOUT = ("n", "min", "max")
DIFFERENT = 0.5
"""Share of different files among clips at or below which they are copies; two clips may be alike by chance."""
EMPTY = {"silent": "audio", "still": "video"}
"""The stream that each flag of a clip's health is of."""


def failures(metrics: Mapping[str, Any]) -> list[str]:
    """Return a line for each sign of failure that the figures of a report show with certainty."""
    return [*_empty(metrics), *_dropped_regions(metrics), *_dropped_classes(metrics), *_collapsed(metrics)]


def repeated(clips: Sequence[ScoredClip]) -> list[str]:
    """Return a line for each row of clips that are mostly copies of a few files, and for two rows of the same files."""
    rows: dict[str, list[str]] = {}
    for clip in clips:
        if clip.values.get("sha256"):
            rows.setdefault(clip.row, []).append(clip.values["sha256"])
    lines = [
        f"copies: {len(found)} {_called(row)} are {count} different file{'' if count == 1 else 's'}, and intervals "
        "take all for independent: look at how they were made"
        for row, found in rows.items()
        if (count := len(set(found))) <= len(found) * DIFFERENT
    ]
    if rows.get("guided") and set(rows["guided"]) == set(rows.get("independent", [])):
        lines.append("copies: the guided samples are the same files as the independent ones: look at what was named")
    return lines


def _called(row: str) -> str:
    return row if row == "samples" else f"{row} {'clips' if row in REAL else 'samples'}"


def _empty(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each row of samples that are all silent, or all still: nothing else shows in their figures."""
    for row, found in (metrics.get("health") or {}).items():
        for flag, stream in EMPTY.items():
            if row not in REAL and found.get("n") and found.get(flag) == found["n"]:
                all_of = f"all {found['n']} {_called(row)}"
                yield f"{flag} {stream}: that of {all_of} is {flag}, so their alignment says nothing"


def _dropped_regions(metrics: Mapping[str, Any]) -> Iterator[str]:
    lost = [
        f"{_feature(name)} {cell(rows['guided'])} of the real ones, independent {cell(rows['independent'])}"
        for name, rows in _named(metrics, "coverage")
        if (found := rows.get("difference")) and found["high"] is not None and found["high"] < -LOST
    ]
    if lost:
        yield f"mode dropping: guided samples cover by {'; by '.join(lost)}: {TRY_MODES}"


def _dropped_classes(metrics: Mapping[str, Any]) -> Iterator[str]:
    found = [
        (modality, label, rows)
        for name in CLASSES
        for modality, rows in metrics.get(name, {}).items()
        if {"guided", "independent"} <= rows.keys()
        for label in rows["independent"]
        if label not in ABOUT
    ]
    for modality, label, rows in found:
        few, usual = (rows[row][label]["value"] or 0.0 for row in ("guided", "independent"))
        if _is_dropped(few, rows["guided"]["n"], usual, rows["independent"]["n"], len(found)):
            yield (
                f"mode dropping: {label} is {few:.3f} of the guided samples ({modality}), {usual:.3f} of the "
                f"independent ones: {TRY_MODES}"
            )


def _is_dropped(few: float, n: int, usual: float, m: int, tests: int) -> bool:
    """Return whether a share is below half another, and by more than chance explains in any of as many tests."""
    if not n or not m or few >= RARE * usual:
        return False
    pooled = (few * n + usual * m) / (n + m)
    error = (pooled * (1 - pooled) * (1 / n + 1 / m)) ** 0.5
    return bool(usual - few > NormalDist().inv_cdf(1 - FALSE_ALARM / tests) * error)


def _collapsed(metrics: Mapping[str, Any]) -> Iterator[str]:
    near: dict[tuple[str, bool], list[str]] = {}
    for name, rows in _named(metrics, "diversity"):
        for row in ("guided", "samples"):
            if _is_near(rows.get(row)):
                beside = f", independent {cell(rows['independent'])}" if rows.get("independent") else ""
                alike = _is_near(rows.get("independent")) and row == "guided"
                near.setdefault((row, alike), []).append(
                    f"{_feature(name)} {cell(rows[row])} as far apart as real ones{beside}"
                )
    for (row, alike), lines in near.items():
        yield f"collapse: {_called(row)} are by {'; by '.join(lines)}: {NOT_GUIDANCE if alike else TRY_COLLAPSE}"


def _is_near(figure: Mapping[str, Any] | None) -> bool:
    """Return whether samples are certainly closer together than real clips."""
    high = (figure or {}).get("high")
    return high is not None and high < COLLAPSED


def _named(metrics: Mapping[str, Any], measure: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    named = ((name, rows) for name, rows in metrics.items() if name.split("_")[0] == measure)
    return ((name, rows) for name, rows in named if isinstance(rows, Mapping))


def _feature(name: str) -> str:
    return spelt(name.partition("_")[2]) or "features"
