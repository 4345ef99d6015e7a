"""Tables of text: csv of any dialect, JSON, JSON lines; a wrong line costs itself alone."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from mmdisco_cli.errors import DataError

TABLES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")
DELIMITERS = ",;\t"
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
LEGACY = ("cp1252", "latin-1")
"""What a text that is not UTF-8 is read as: Latin-1 as Windows has it, or where bytes are left over as it was."""


@dataclass
class Table:
    """`records` as (line, values by column), lines that hold none as (name, reason), remarks as (name, remark)."""

    name: str
    columns: list[str]
    records: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    bad: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, str]] = field(default_factory=list)


def read_table(content: bytes, name: str) -> Table:
    """Read a table whose first line names its columns; `name` gives its format, and messages use it.

    Raises:
        DataError: it is empty, or no such table.
    """
    text, notes = decode(content, name)
    if not text.strip():
        raise DataError(f"{name}: is empty")
    suffix = PurePosixPath(name).suffix.lower()
    read = _read_json if suffix == ".json" else _read_lines if suffix in (".jsonl", ".ndjson") else _read_csv
    table = read(text, name)
    table.notes = notes + table.notes
    return table


def decode(content: bytes, name: str) -> tuple[str, list[tuple[str, str]]]:
    """Return a text by its byte order mark, as UTF-8, or as Latin-1 with a remark."""
    for mark, encoding in MARKS:
        if content.startswith(mark):
            return content.decode(encoding, "replace"), []
    try:
        return content.decode(), []
    except UnicodeDecodeError:
        for encoding in LEGACY:
            try:
                return content.decode(encoding), [(name, "is not UTF-8, and was read as Latin-1")]
            except UnicodeDecodeError:
                continue
    raise AssertionError("every byte is a letter in Latin-1")


def read_csv_rows(text: str, name: str, bad: list[tuple[str, str]]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) of a csv text; quoted cells may hold commas and line breaks. Wrong lines go to `bad`.

    Raises:
        DataError: a quote is never closed, so that its end is unknown.
    """
    delimiter = _delimiter(text, name)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if "end of data" in str(error):
                raise DataError(f"{name}:{line}: a quote is opened and never closed") from error
            bad.append((f"{name}:{line}", f"cannot be read ({error}): quotes within quotes are written twice"))
            continue
        if cells is None:
            return
        if any(cell.strip() for cell in cells):
            yield line, cells


def _delimiter(text: str, name: str) -> str:
    """Return what parts the cells of the first line: a comma unless another mark is there and none of them is."""
    if name.lower().endswith(".tsv"):
        return "\t"
    head = text.lstrip().split("\n", 1)[0]
    return "," if "," in head else max(DELIMITERS, key=head.count)


def _read_csv(text: str, name: str) -> Table:
    bad: list[tuple[str, str]] = []
    rows = read_csv_rows(text, name, bad)
    _, header = next(rows, (0, []))
    table = Table(name, [cell.strip() for cell in header], bad=bad)
    if twice := next((column for column in table.columns if column and table.columns.count(column) > 1), None):
        raise DataError(f"{name}: two columns are called {twice!r}")
    for line, cells in rows:
        if len(cells) != len(table.columns):
            bad.append((f"{name}:{line}", f"{len(cells)} cells where the header has {len(table.columns)}"))
        else:
            table.records.append((line, dict(zip(table.columns, cells, strict=True))))
    return table


def _read_lines(text: str, name: str) -> Table:
    records, bad = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                value = json.loads(line)
            except ValueError as error:
                bad.append((f"{name}:{number}", f"no JSON ({error})"))
                continue
            records.append((number, value))
    return _of_objects(records, name, bad)


def _read_json(text: str, name: str) -> Table:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise DataError(f"{name}: no JSON ({error})") from error
    if isinstance(content, dict):
        # Some writers put the list under one key, beside remarks on the whole.
        lists = [value for value in content.values() if isinstance(value, list)]
        content = lists[0] if len(lists) == 1 else content
    if not isinstance(content, list):
        raise DataError(f"{name}: no list of objects")
    return _of_objects(list(enumerate(content, 1)), name, [])


def _of_objects(values: list[tuple[int, Any]], name: str, bad: list[tuple[str, str]]) -> Table:
    records = [(number, value) for number, value in values if isinstance(value, dict)]
    bad += [(f"{name}:{number}", "no JSON object") for number, value in values if not isinstance(value, dict)]
    columns = list(dict.fromkeys(str(key) for _, record in records for key in record))
    if not records:
        raise DataError(f"{name}: no list of objects")
    return Table(name, columns, records, bad)
