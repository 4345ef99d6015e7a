"""What every protocol hands back, and how it is shown: numbers as JSON, a table for people."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdisco_cli.data.media import replacing
from mmdisco_cli.errors import DataError

METRICS_FILE = "metrics.json"


@dataclass(frozen=True)
class Report:
    """Hold n samples a row, metrics by name, how they were measured, the table's lines and further files written."""

    n: int
    metrics: Mapping[str, Any]
    protocol: Mapping[str, Any]
    table: Sequence[str]
    files: Sequence[Path] = ()


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells, the first the headings, as lines with the first column left and all others right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(cell.rjust(w) if k else cell.ljust(w) for k, (cell, w) in enumerate(zip(row, widths, strict=True)))
        for row in rows
    ]


def number(value: float, digits: int = 4) -> str:
    """Return a figure for a table, a dash where there is none."""
    return f"{value:.{digits}f}" if value == value else "-"


def make_directory(directory: Path) -> None:
    """Make the directory of a report; raise DataError where it cannot be made."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{directory}: cannot write ({error.strerror})") from error


def write_json(path: Path, content: Mapping[str, Any]) -> Path:
    """Write an object as JSON, whole or not at all."""
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path
