"""Lines of a table become rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any

from mmdisco_cli.data.index.rows import Columns, Fields, Index, Row, columns_of, side_of, side_of_name
from mmdisco_cli.data.index.tables import Table
from mmdisco_cli.data.source import Source
from mmdisco_cli.errors import DataError

Locate = Callable[[str], tuple[str, Source, str]]
"""From a cell to what a medium is called, where it lies, and the split that its place names, if any."""


def read_path_table(table: Table, path: Path, media: Path | None, chosen: Mapping[str, str]) -> Index:
    """Return the rows of a table of paths, which are relative to `media` or else to the table's folder."""
    index = add_records(table, columns_of(table.columns, chosen, table.name), _relative_to(media or path.parent))
    index.layout = "a table of media files"
    return with_side(index, side_of_name(path.name))


def with_side(index: Index, side: str) -> Index:
    """Let rows of which nothing else says so be of the split that their table or shard is called after."""
    index.rows = [row if row.split or not side else replace(row, split=side) for row in index.rows]
    return index


def add_records(table: Table, columns: Columns, locate: Locate) -> Index:
    """Return the rows of a table; a line without media, or with a wrong number, is bad and costs itself alone.

    Raises:
        DataError: no column says where media lie.
    """
    if "video" not in columns and "audio" not in columns:
        have = ", ".join(table.columns[:12]) or "none"
        raise DataError(f"{table.name}: no column names media files (columns: {have}): say which with data.video")
    index = Index("", bad=list(table.bad), notes=list(table.notes))
    odd: set[str] = set()
    for line, record in table.records:
        origin = f"{table.name}:{line}"
        try:
            index.rows += _rows(record, columns, locate, origin)
        except DataError as error:
            index.bad.append((origin, str(error)))
        if (split := columns.text(record, "split")) and not side_of(split):
            odd.add(split)
    if odd:
        others = ", ".join(sorted(odd))
        index.notes.append((table.name, f"splits other than train and heldout count as train: {others}"))
    return index


def _rows(record: Mapping[str, Any], columns: Columns, locate: Locate, origin: str) -> list[Row]:
    named = {role: text for role in ("video", "audio") if (text := path_text(record, columns, role))}
    if not named:
        raise DataError("names no media file")
    if address := next((text for text in named.values() if re.match(r"[a-z0-9+]+://", text)), None):
        raise DataError(f"{address} is an address: media have to be downloaded first")
    found = {role: locate(text) for role, text in named.items()}
    name, _, side = found.get("video") or found["audio"]
    split = columns.text(record, "split")
    start, duration = segment(record, columns, name)
    rest: Fields = {
        "video": found["video"][1] if "video" in found else None,
        "audio": found["audio"][1] if "audio" in found else None,
        "label": columns.text(record, "label"),
        "split": (side_of(split) or "train") if split else side,
        "start": start,
        "duration": duration,
        "origin": origin,
    }
    return [Row(name, **rest, **texts) for texts in columns.captions(record)]


def path_text(record: Mapping[str, Any], columns: Columns, role: str) -> str:
    """Return the path in a cell: text, or what the hub's tables have, an object with a path."""
    value = record.get(columns.of[role]) if role in columns else None
    if isinstance(value, dict):
        value = value.get("path")
    return value.strip() if isinstance(value, str) else ""


def segment(record: Mapping[str, Any], columns: Columns, name: str) -> tuple[Fraction | None, Fraction | None]:
    """Return from when on and for how long a clip lasts within its file, None for the file's own bounds.

    A file called after its start, NAME_000030.mp4, has been cut there already.

    Raises:
        DataError: a time is not a number, or negative.
    """
    start = columns.seconds(record, "start")
    if start is None or PurePosixPath(name).stem.endswith(f"_{int(start):06d}"):
        return None, None
    end, duration = columns.seconds(record, "end"), columns.seconds(record, "duration")
    length = end - start if end is not None else duration
    if start < 0 or (length is not None and length <= 0):
        raise DataError(f"takes {float(length or 0):g} s from {float(start):g} s on, which is not part of a file")
    return start, length


def _relative_to(folder: Path) -> Locate:
    def locate(name: str) -> tuple[str, Source, str]:
        return name, str(folder / name), ""

    return locate
