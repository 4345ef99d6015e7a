"""What a directory of samples holds: settings.json says how they were made, manifest.jsonl has a line for each.

Several shards may write one directory. A line is appended whole or, by a kill, torn: then its sample is made again.
"""

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdisco_cli.data.media import ESCAPED, make_directory, write_text
from mmdisco_cli.errors import DataError

MANIFEST = "manifest.jsonl"
SETTINGS = "settings.json"

Row = dict[str, Any]
"""One sample: "path" relative to the directory, "index", "seed", "prompt", "logit", "settings" (a fingerprint)."""


def append_row(directory: Path, row: Mapping[str, Any]) -> None:
    """Append one line, in a single write so that other shards' lines never mix with it."""
    path = directory / MANIFEST
    line = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode(errors=ESCAPED)
    try:
        with path.open("ab+", buffering=0) as file:
            written = file.write(_line_break(file.fileno()) + line)
        if written is None or written < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise DataError(f"{path}: cannot write ({error.strerror})") from error


def read_rows(directory: Path) -> list[Row]:
    """Return the latest line of every sample in order of index, leaving out torn ones and files that are gone."""
    rows = {str(row["path"]): row for row in _lines(directory / MANIFEST) if _is_row(row)}
    present = [row for row in rows.values() if all((directory / str(name)).is_file() for name in _files(row))]
    return sorted(present, key=lambda row: (int(row["index"]), int(row["seed"])))


def complete_rows(directory: Path) -> list[Row]:
    """Return the samples that were made with the directory's present settings: those to show and to measure."""
    settings = read_settings(directory)
    fingerprint = settings.get("fingerprint") if settings else None
    return [row for row in read_rows(directory) if row.get("settings") == fingerprint]


def read_settings(directory: Path) -> dict[str, Any] | None:
    """Return settings.json, None where there is none; raise DataError where it is damaged."""
    path = directory / SETTINGS
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: not readable ({error})") from error
    if not isinstance(settings, dict):
        raise DataError(f"{path}: not readable (no JSON object)")
    return settings


def write_settings(directory: Path, settings: Mapping[str, Any]) -> None:
    """Make the directory and write settings.json, whole or not at all."""
    make_directory(directory)
    write_text(directory / SETTINGS, json.dumps(settings, indent=1, ensure_ascii=False) + "\n")


def _line_break(descriptor: int) -> bytes:
    """Return what ends the last line if a kill has torn it."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    return b"\n" if end and os.pread(descriptor, 1, end - 1) != b"\n" else b""


def _lines(path: Path) -> list[Any]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    return [parse_line(line) for line in text.split("\n")]


def parse_line(line: str) -> Any:
    """Return what a line of JSON holds, None for one that is torn or no JSON."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def _is_row(row: Any) -> bool:
    kinds = {"path": str, "index": int, "seed": int}
    return isinstance(row, dict) and all(type(row.get(key)) is kind for key, kind in kinds.items())


def _files(row: Mapping[str, Any]) -> list[Any]:
    return [row[key] for key in ("path", "latents") if row.get(key)]
