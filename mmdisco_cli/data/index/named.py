"""Tables that name clips by a YouTube id and a start: VGGSound, AudioSet, AudioCaps. Files are called ID_SSSSSS."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from mmdisco_cli.data.index.files import list_files, suffix_of
from mmdisco_cli.data.index.memory import Memory
from mmdisco_cli.data.index.records import with_side
from mmdisco_cli.data.index.rows import Columns, Fields, Index, Row, columns_of, side_of, side_of_name
from mmdisco_cli.data.index.shards import list_shard
from mmdisco_cli.data.index.tables import Table, decode, read_csv_rows, read_table
from mmdisco_cli.data.naming import SOUND_SUFFIXES, SUFFIXES
from mmdisco_cli.data.source import Source, Stretch
from mmdisco_cli.errors import DataError

LENGTH = Fraction(10)
"""Seconds of a clip of these sets, where a file holds the whole recording and the table names no end."""
ID = re.compile(r"[\w-]{11}")


@dataclass(frozen=True)
class Media:
    """Media files by their names without suffix: those with video, and those of audio alone."""

    folder: Path
    video: dict[str, Source]
    audio: dict[str, Source]


def is_vggsound(cells: list[str]) -> bool:
    """Return whether the first line of a csv is a row of VGGSound's: id, start, label, split."""
    return len(cells) == 4 and bool(ID.fullmatch(cells[0].strip())) and cells[1].strip().isdigit()


def is_identified(columns: Columns) -> bool:
    """Return whether a table names clips by id and start."""
    return "id" in columns and "start" in columns


def read_vggsound(content: bytes, path: Path, media: Media) -> Index:
    """Return VGGSound's rows; the label is the caption too, for there is no other text."""
    text, notes = decode(content, str(path))
    table = Table(str(path), ["id", "start", "label", "split"], notes=notes)
    for line, cells in read_csv_rows(text, str(path), table.bad):
        if len(cells) == 4:
            table.records.append((line, dict(zip(table.columns, cells, strict=True))))
        else:
            table.bad.append((f"{path}:{line}", f"{len(cells)} cells instead of 4: id, start, label, split"))
    columns = Columns({"id": "id", "start": "start", "label": "label", "split": "split", "caption": "label"})
    return _read(table, columns, media, "VGGSound's table")


def read_identified(content: bytes, path: Path, media: Media, chosen: Mapping[str, str]) -> Index:
    """Return the rows of a table with columns for id and start, as AudioSet and AudioCaps have them."""
    table = read_table(without_comments(content), str(path))
    columns = columns_of(table.columns, chosen, table.name)
    if "label" not in columns and "positive_labels" in table.columns:
        columns = Columns({**columns.of, "label": "positive_labels"})
    if not is_identified(columns):
        raise DataError(f"{path}: no columns for a YouTube id and a start (columns: {', '.join(table.columns)})")
    return with_side(_read(table, columns, media, "a table of ids and starts"), side_of_name(path.name))


def without_comments(content: bytes) -> bytes:
    """Return a csv without AudioSet's lines of comment, of which the last one names the columns."""
    lines = content.split(b"\n")
    comments = next((i for i, line in enumerate(lines) if not line.startswith(b"#")), len(lines))
    if not comments:
        return content
    return b"\n".join([b"\n" * (comments - 1) + lines[comments - 1].lstrip(b"# "), *lines[comments:]])


def find_media(folder: Path, memory: Memory) -> Media:
    """List all media below a folder, those within tar files too, by their names without suffix.

    Raises:
        DataError: no such folder, or a tar that cannot be read.
    """
    files = list_files(folder)
    found = Media(folder, {}, {})
    for name in files.ending(SUFFIXES):
        _add(found, name, files.sources[name])
    for name in files.ending((".tar",)):
        for member in list_shard(f"{folder}/{name}", memory).members:
            if suffix_of(member.name) in SUFFIXES:
                _add(found, member.name, Stretch(f"{folder}/{name}", member.name, member.offset, member.size))
    return found


def _add(media: Media, name: str, source: Source) -> None:
    stem, suffix = os.path.splitext(os.path.basename(name))  # noqa: PTH119, PTH122 - one for every clip
    kind = media.audio if suffix.lower() in SOUND_SUFFIXES else media.video
    kind.setdefault(stem, source)


def _read(table: Table, columns: Columns, media: Media, layout: str) -> Index:
    index = Index(layout, bad=list(table.bad), notes=list(table.notes))
    for line, record in table.records:
        origin = f"{table.name}:{line}"
        try:
            index.rows += _rows(record, columns, media, origin)
        except DataError as error:
            index.bad.append((f"{columns.text(record, 'id')} ({origin})", str(error)))
    return index


def _rows(record: Mapping[str, Any], columns: Columns, media: Media, origin: str) -> list[Row]:
    name, start = columns.text(record, "id"), columns.seconds(record, "start")
    if not name or start is None:
        raise DataError("no id or no start")
    cut = f"{name}_{int(start):06d}"
    video, audio = media.video.get(cut), media.audio.get(cut)
    begin = length = None
    if video is None and audio is None:
        video, audio, begin = media.video.get(name), media.audio.get(name), start
        end = columns.seconds(record, "end")
        length = end - start if end is not None else LENGTH
    if video is None and audio is None:
        raise DataError(f"no file called ID_SSSSSS, its id and start, below {media.folder}")
    rest: Fields = {
        "label": columns.text(record, "label"),
        "split": side_of(columns.text(record, "split")),
        "start": begin,
        "duration": length,
        "origin": origin,
    }
    called = cut if begin is None else name
    return [Row(called, video, audio, **rest, **texts) for texts in columns.captions(record)]
