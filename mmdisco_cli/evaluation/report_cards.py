"""The cards of a report: clips that belong together, of one noise or of one text, side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmdisco_cli.data.naming import UNUSABLE, file_errors
from mmdisco_cli.evaluation.protocol import Report
from mmdisco_cli.evaluation.verdict.conclusion import LEADING, Conclusion
from mmdisco_cli.measures.scoring import ScoredClip, added
from mmdisco_cli.page.cards import Card, Player
from mmdisco_cli.page.embedding import embedded

ROWS = ("real", "independent", "guided", "samples")
MOST = 36
"""Cards shown: the third that is best, the third that is worst, and a third spread evenly over all others."""
SHOWN = ("event_iou", "av_align", "av_align_chance", "av_lag", "onsets", "motion_peaks", "motion", "rms_db")


def cards_of(report: Report, conclusion: Conclusion) -> list[Card]:
    """Return cards of clips that belong together, by their place among the sorted names of their row."""
    rows = {row: sorted((c for c in report.clips if c.row == row), key=lambda c: c.name) for row in ROWS}
    leading = next((row for row in ("guided", "samples", "real") if rows[row]), None)
    if leading is None:
        return []
    column = LEADING[conclusion.metric].column if conclusion.metric else "av_align"
    partner = _Partner(rows, leading, report.beside)
    cards = []
    for place in _chosen([clip.values.get(column) for clip in rows[leading]]):
        main = rows[leading][place]
        found = [partner.of(row, main, place) for row in ("guided", "samples", "independent", "real")]
        title, flags = main.name.removesuffix(main.path.suffix), main.values["flags"]
        players, prompt = [_player(one) for one in found if one], report.prompts.get(main.path, "")
        cards.append(Card(title, players, {"flags": flags} if flags else {}, prompt))
    return cards


class _Partner:
    """Finds the clip of a row that stands beside another: by its name or text, or real ones of others as they come."""

    def __init__(self, rows: Mapping[str, Sequence[ScoredClip]], leading: str, beside: Mapping[Path, Path]) -> None:
        names = {clip.name for clip in rows[leading]}
        self._rows, self._beside = rows, beside
        self._named = any(clip.name in names for clip in rows["real"])

    def of(self, row: str, main: ScoredClip, place: int) -> ScoredClip | None:
        """Return the clip of a row beside the one at a place of the leading row."""
        clips = self._rows[row]
        if row == "real" and main.path in self._beside:
            return next((clip for clip in clips if clip.path == self._beside[main.path]), None)
        if row == "real" and not self._named:
            return clips[place] if place < len(clips) else None
        return next((clip for clip in clips if clip.name == main.name), None)


def _chosen(values: Sequence[float | None]) -> list[int]:
    """Return the places of the clips to show, rising."""
    if len(values) <= MOST:
        return list(range(len(values)))
    ranked = sorted(range(len(values)), key=lambda k: (values[k] is None, -(values[k] or 0.0), k))
    third = MOST // 3
    between = ranked[third:-third]
    spread = [between[k * len(between) // third] for k in range(third)]
    return sorted({*ranked[:third], *spread, *ranked[-third:]})


def _player(clip: ScoredClip) -> Player:
    values = {name: clip.values[name] for name in (*SHOWN, *added(clip)) if name in clip.values}
    caption = f"{clip.row} · {clip.name}"
    try:
        with file_errors(clip.path):
            source, copied = embedded(clip.path)
    except UNUSABLE:  # what is wrong with it stands in place of its drawings
        source, copied = "data:,", False
    caption += " · small copy" if copied else ""
    return Player(clip.row, caption, clip.path, source, clip.peaks.motion, clip.peaks.onsets, values)
