"""A directory of samples: settings.json says how they were made, manifest.jsonl has a line for each.

Several shards may write to one directory. A line that a kill has cut off is ignored, and its sample made again.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdisco_cli.data.naming import file_errors
from mmdisco_cli.errors import DataError
from mmdisco_cli.run.files import append_line, make_directory, read_lines, write_json

MANIFEST = "manifest.jsonl"
SETTINGS = "settings.json"

Row = dict[str, Any]
"""One sample: "path" relative to the directory, "index", "seed", "prompt", "logit", "settings" (a fingerprint).

"files" are the names of all its files by modality, of which "path" is the main one, "kinds" the kind of each, and
"bytes" the size of each file by name. Older lines have none of these. Where its prompt was given by modality,
"captions" maps each modality to its text.
"""


def append_row(directory: Path, row: Mapping[str, Any]) -> None:
    """Append one line, in a single write so that other shards' lines never mix with it."""
    append_line(directory / MANIFEST, row)


def read_rows(directory: Path) -> list[Row]:
    """Return the latest line of every sample in order of index, without incomplete lines and missing or cut files."""
    rows = {str(row["path"]): row for row in read_lines(directory / MANIFEST) if _is_row(row)}
    whole = [row for row in rows.values() if all(_is_whole(directory, name, row) for name in _files(row))]
    return sorted(whole, key=sample_key)


def sample_key(row: Row) -> tuple[int, int]:
    """Return index and seed, which identify a sample of a run and its noise, whatever its files are called."""
    return int(row["index"]), int(row["seed"])


def sizes_of(directory: Path, row: Mapping[str, Any]) -> dict[str, int]:
    """Return the size in bytes of each file of a sample by name; raise DataError where one is not there."""
    with file_errors(directory):
        return {str(name): (directory / str(name)).stat().st_size for name in _files(row)}


def complete_rows(directory: Path) -> list[Row]:
    """Return the samples that were made with the directory's present settings: those to display and to evaluate."""
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
    write_json(directory / SETTINGS, settings)


def _is_row(row: Any) -> bool:
    kinds = {"path": str, "index": int, "seed": int}
    return isinstance(row, dict) and all(type(row.get(key)) is kind for key, kind in kinds.items())


def _is_whole(directory: Path, name: Any, row: Mapping[str, Any]) -> bool:
    """Return whether a file is there, and no shorter than it was written: a full disk or a broken copy cuts files."""
    sizes = row.get("bytes")
    size = sizes.get(str(name)) if isinstance(sizes, dict) else None
    path = directory / str(name)
    return path.is_file() and (not isinstance(size, int) or path.stat().st_size >= size)


def _files(row: Mapping[str, Any]) -> list[Any]:
    files = row.get("files")
    named = list(files.values()) if isinstance(files, dict) else []
    return [*(row[key] for key in ("path", "latents") if row.get(key)), *named]
