"""From rows to windows: probe the media, leave out what cannot be used, and cut the rest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from mmdisco_cli.data.breaks import Span
from mmdisco_cli.data.index.checks import check_all, sided, stamp_remarks
from mmdisco_cli.data.index.folder import listed
from mmdisco_cli.data.index.losses import Count, Losses, Progress, called, reasons, report_lines
from mmdisco_cli.data.index.memory import Memory, Stamp
from mmdisco_cli.data.index.probes import Probed, probe_all, stamps_of
from mmdisco_cli.data.index.rows import Index, Row
from mmdisco_cli.data.source import Source
from mmdisco_cli.data.windows import ClipWindow, WindowStore
from mmdisco_cli.errors import DataError


@dataclass(frozen=True)
class Scan:
    """What a data set holds: windows by row and time, (name, reason) of rows left out, remarks on usable ones."""

    windows: tuple[ClipWindow, ...]
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Cutting:
    """How rows become windows: `step` seconds apart, at most `most` a row, the share `holdout` of the media held out.

    Up to `check` rows are decoded whole the first time. More than the share `max_bad` missing or broken is an error.
    """

    step: Fraction
    most: int | None = None
    holdout: float = 0.1
    check: int = 1 << 60
    max_bad: float = 1.0
    workers: int = 1


class TooShortError(DataError):
    """A row whose media are whole, and too short for a window."""


@dataclass(frozen=True)
class Present:
    """Rows of an index whose media are there, before any of these is read, and what is lost until then."""

    index: Index
    rows: list[Row]
    notes: list[tuple[str, str]]
    stamps: dict[Source, Stamp]
    losses: Losses

    @property
    def captioned(self) -> bool:
        """Return whether any row has a caption."""
        return any(row.captioned for row in self.rows)

    @property
    def report(self) -> tuple[str, ...]:
        """Return a line for each row that is lost, and each remark on the index."""
        return report_lines(self.losses.skipped, self.index.notes)


def present_rows(index: Index, root: Path, modalities: Sequence[str], max_bad: float) -> Present:
    """Return the rows of an index whose media are there; raise DataError where too many are not."""
    rows, notes = _once(index.rows)
    losses = Losses(str(root), len(rows) + len(index.bad), max_bad)
    for name, reason in index.bad:
        losses.add(name, reason)
    sources = list(dict.fromkeys(source for row in rows for source in _media(row, modalities)))
    stamps, absent = stamps_of(sources)
    rows = _without(rows, absent, modalities, losses)
    losses.refuse()
    return Present(index, rows, notes, stamps, losses)


def scan_rows(
    present: Present, root: Path, store: WindowStore, cutting: Cutting, memory: Memory, progress: Progress | None = None
) -> Scan:
    """Return the windows of all rows that can be used, and why others cannot.

    Raises:
        DataError: nothing is usable, or too many rows are broken.
    """
    index, rows, stamps, losses = present.index, present.rows, present.stamps, present.losses
    checks = len(rows) if len(rows) <= cutting.check else 0
    count = Count(len(stamps) + checks, progress)
    probed, broken = probe_all(stamps, memory, cutting.workers, count.add)
    rows = _without(rows, broken, store.modalities, losses)
    found = list(_cut_all(rows, probed, store, cutting, losses))
    losses.refuse()
    if checks:
        found, remarks = check_all(found, store, memory, losses, count)
        losses.refuse()
    else:
        remarks = [(row.name, remark) for row, windows in found for remark in stamp_remarks(windows)]
    if not found:
        raise DataError(
            f"{root}: none of {losses.total} {_kind(index)} is usable ({reasons(losses.skipped, losses.total)})"
        )
    windows, sides = sided(found, root, cutting.holdout)
    notes = [
        *index.notes,
        *present.notes,
        *dict.fromkeys(remarks),
        *sides,
        *_text_notes([row for row, _ in found], root),
    ]
    return Scan(tuple(windows), tuple(losses.skipped), tuple(notes))


def _kind(index: Index) -> str:
    return "files" if index.layout == "a folder of media files" else "rows"


def _media(row: Row, modalities: Sequence[str]) -> list[Source]:
    """Return the media that a row is read from, that of the video first."""
    ordered = sorted(modalities, reverse=True)
    return list(dict.fromkeys(source for m in ordered if (source := row.medium(m)) is not None))


def _once(rows: Sequence[Row]) -> tuple[list[Row], list[tuple[str, str]]]:
    """Return rows without those that say again what another has said, and a remark on each of these."""
    first: dict[tuple[object, ...], str] = {}
    kept, notes = [], []
    for row in rows:
        alike = (row.video, row.audio, row.start, row.duration, row.split, row.texts)
        if alike in first:
            notes.append((called(row), f"says the same again as {first[alike] or 'another row'}, and counts once"))
            continue
        first[alike] = row.origin
        kept.append(row)
    return kept, notes


def _without(rows: Sequence[Row], failed: Mapping[Source, str], modalities: Sequence[str], losses: Losses) -> list[Row]:
    """Return the rows whose media did not fail."""
    kept = []
    for row in rows:
        reason = next((failed[source] for source in _media(row, modalities) if source in failed), None)
        if reason is None:
            kept.append(row)
        else:
            losses.add(called(row), reason)
    return kept


def _cut_all(
    rows: Sequence[Row], probed: Mapping[Source, Probed], store: WindowStore, cutting: Cutting, losses: Losses
) -> Iterator[tuple[Row, list[ClipWindow]]]:
    for row in rows:
        try:
            yield row, _cut(row, probed, store, cutting)
        except DataError as error:
            text = str(error)
            for source in _media(row, store.modalities):
                text = text.removeprefix(f"{source}: ")
            losses.add(called(row), text, bad=not isinstance(error, TooShortError))


def _cut(row: Row, probed: Mapping[Source, Probed], store: WindowStore, cutting: Cutting) -> list[ClipWindow]:
    """Return a row's windows; raise DataError where a stream is missing or there is no room for one."""
    shape, media = store.shape, _media(row, store.modalities)
    parts = [probed[source] for source in media]
    spans = [
        part.info.span([m for m in store.modalities if row.medium(m) == source])
        for source, part in zip(media, parts, strict=True)
    ]
    span = _limited(Span(max(s.start for s in spans), min(s.stop for s in spans)), row)
    starts = _starts(span, shape.seconds, 1 / (2 * shape.fps), cutting.step, cutting.most)
    if not starts:
        have, need = max(0.0, float(span.stop - span.start)), float(shape.seconds)
        what = " and ".join(store.modalities)
        raise TooShortError(f"{media[0]}: only {have:.3f} s of {what}, a window takes {need:.3f} s")
    digest = "+".join(part.digest for part in parts)
    audio = parts[1].info if len(parts) > 1 else None
    return [ClipWindow(row.name, digest, False, start, parts[0].info, audio, row) for start in starts]


@lru_cache(1 << 16)
def _starts(span: Span, length: Fraction, slack: Fraction, step: Fraction, most: int | None) -> tuple[Fraction, ...]:
    """Return when windows of some length begin within a span, over whose end they may reach a little."""
    room = span.stop + slack - span.start - length
    return tuple(span.start + index * step for index in spread(int(room / step) + 1, most)) if room >= 0 else ()


def spread(count: int, most: int | None) -> list[int]:
    """Return which of `count` windows to take where there may be at most `most`: evenly spread, one from the middle."""
    if most is None or count <= most:
        return list(range(count))
    return [(2 * index + 1) * count // (2 * most) for index in range(most)]


def _limited(span: Span, row: Row) -> Span:
    """Return the part of a medium's time that a row is about."""
    if row.start is None:
        return span
    stop = span.stop if row.duration is None else min(span.stop, row.start + row.duration)
    return Span(max(span.start, row.start), stop)


def _text_notes(rows: Sequence[Row], root: Path) -> Iterator[tuple[str, str]]:
    """Yield remarks on captions that are missing or several."""
    if not any(row.captioned for row in rows):
        return
    if without := [called(row) for row in rows if not row.captioned]:
        yield str(root), f"{len(without)} of {len(rows)} rows have no caption ({listed(without)})"
    places = Counter((row.video, row.audio, row.start) for row in rows)
    if several := sum(count > 1 for count in places.values()):
        clips = "clip has" if several == 1 else "clips have"
        yield str(root), f"{several} {clips} several captions: each is a row of its own"
