"""Parquet: tables of paths, and the hub's tables that hold the media themselves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdisco_cli.data.index.extra import require
from mmdisco_cli.data.index.records import path_text, segment, with_side
from mmdisco_cli.data.index.rows import Columns, Fields, Index, Row, columns_of, side_of, side_of_name, side_of_path
from mmdisco_cli.data.index.tables import Table
from mmdisco_cli.data.source import Cell, Source
from mmdisco_cli.errors import DataError

BUFFER = 1 << 20


@dataclass
class _Place:
    """A reader of one column, so far on: rows are mostly wanted in order."""

    batches: Any
    row: int


_places: dict[tuple[str, str], _Place] = {}
MOST_PLACES = 4


def has_media(path: Path) -> bool:
    """Return whether a Parquet table holds media, and not only their paths."""
    return bool(_media_columns(_open(str(path)).schema_arrow))


def read_parquet_table(path: str) -> Table:
    """Return a Parquet table of texts and paths, lines counted from 1."""
    file = _open(path)
    records = file.read().to_pylist()
    return Table(path, list(file.schema_arrow.names), list(enumerate(records, 1)))


def read_hub_tables(paths: Sequence[Path], chosen: Mapping[str, str], root: Path | None) -> Index:
    """Return the clips of Parquet tables whose cells hold media, without reading these.

    Raises:
        DataError: a table is damaged, or holds no media.
    """
    index = Index("Parquet tables that hold media")
    for path in paths:
        label = path.relative_to(root).as_posix() if root else path.name
        one = _read_one(path, label, chosen)
        folders = path.relative_to(root).parts[:-1] if root else ()
        index.extend(with_side(one, side_of_name(path.name) or side_of_path(folders)))
    return index


def read_cell(cell: Cell) -> bytes:
    """Return the bytes of one cell; batches of one row keep the rest of the table out of memory.

    Raises:
        DataError: the cell is empty, or the table damaged or shorter.
    """
    place = _places.pop((cell.path, cell.column), None)
    try:
        if place is None or place.row > cell.row:
            place = _begin(cell)
        batch = None
        while place.row <= cell.row:
            batch = next(place.batches)
            place.row += 1
    except (StopIteration, OSError, ValueError) as error:
        raise DataError(f"{cell}: cannot be read ({error or 'no such row'})") from error
    while len(_places) >= MOST_PLACES:
        del _places[next(iter(_places))]
    _places[cell.path, cell.column] = place
    value = batch.to_pylist()[0] if batch is not None else {}
    for part in cell.column.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if not isinstance(value, bytes):
        raise DataError(f"{cell}: the cell is empty")
    return value


def _begin(cell: Cell) -> _Place:
    """Start to read at the row group that a cell lies in."""
    file, first = _open(cell.path), 0
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        if cell.row < first + count:
            groups = list(range(group, file.num_row_groups))
            return _Place(file.iter_batches(batch_size=1, row_groups=groups, columns=[cell.column]), first)
        first += count
    raise DataError(f"{cell}: the table has only {first} rows")


def _open(path: str) -> Any:
    try:
        return require("pyarrow.parquet").ParquetFile(path, buffer_size=BUFFER, pre_buffer=False)
    except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise DataError(f"{path}: no whole Parquet table ({str(error).splitlines()[0]})") from error


def _media_columns(schema: Any) -> dict[str, str]:
    """Return the columns of bytes by their names, as `video.bytes` where they lie in an object with a path."""
    types = require("pyarrow").types
    found = {}
    for column in schema:
        inner = [f.name for f in column.type if types.is_binary(f.type) or types.is_large_binary(f.type)] if (
            types.is_struct(column.type)) else []  # fmt: skip
        if inner:
            found[column.name] = f"{column.name}.{inner[0]}"
        elif types.is_binary(column.type) or types.is_large_binary(column.type):
            found[column.name] = column.name
    return found


def _read_one(path: Path, label: str, chosen: Mapping[str, str]) -> Index:
    file = _open(str(path))
    schema = file.schema_arrow
    media, classes = _media_columns(schema), _class_names(schema)
    columns = columns_of(schema.names, chosen, str(path))
    held = {role: media[columns.of[role]] for role in ("video", "audio") if columns.of.get(role) in media}
    if not held:
        raise DataError(f"{path}: no column of bytes holds media (columns: {', '.join(schema.names)})")
    index = Index("")
    texts = [name for name in schema.names if name not in media]
    paths = [f"{columns.of[role]}.path" for role, column in held.items() if "." in column]
    for row, record in enumerate(file.read(columns=[*texts, *paths]).to_pylist()):
        record |= {name: names[record[name]] for name, names in classes.items() if _is_class(record.get(name), names)}
        try:
            index.rows += _rows(record, columns, held, path, label, row)
        except DataError as error:
            index.bad.append((f"{label}, row {row}", str(error)))
    return index


def _rows(
    record: Mapping[str, Any], columns: Columns, held: Mapping[str, str], path: Path, label: str, row: int
) -> list[Row]:
    media: dict[str, Source | None] = {"video": None, "audio": None}
    for role, column in held.items():
        media[role] = Cell(str(path), column, row)
    inner = next((text for role in held if (text := path_text(record, columns, role))), "")
    name = f"{label}, row {row}" + (f" ({inner})" if inner else "")
    split = columns.text(record, "split")
    start, duration = segment(record, columns, inner)
    rest: Fields = {
        **media,
        "label": columns.text(record, "label"),
        "split": (side_of(split) or "train") if split else "",
        "start": start,
        "duration": duration,
    }
    return [Row(name, **rest, **texts) for texts in columns.captions(record)]


def _is_class(value: Any, names: Sequence[str]) -> bool:
    return isinstance(value, int) and 0 <= value < len(names)


def _class_names(schema: Any) -> dict[str, list[str]]:
    """Return the names of classes that the hub's tables hold numbers of."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return {name: kind["names"] for name, kind in features.items() if kind.get("_type") == "ClassLabel"}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
