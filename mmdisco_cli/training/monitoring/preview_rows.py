"""The list of previews of a run: a line of JSON for each sample, with its files relative to the run's folder."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdisco_cli.run.files import append_line, read_lines, write_text

LIST = "previews.jsonl"
KEYS = {"step": int, "index": int, "prompt": str, "files": dict, "kinds": dict}


def read_previews(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of the list by step and sample; of one sample of a step the last counts, torn lines do not."""
    rows = [row for row in read_lines(folder / LIST) if _is_row(row)]
    return sorted({(row["step"], row["index"]): row for row in rows}.values(), key=lambda r: (r["step"], r["index"]))


def add_preview(folder: Path, row: Mapping[str, Any]) -> None:
    """Add a line; raise DataError where that is impossible."""
    append_line(folder / LIST, row)


def forget_previews_after(folder: Path, step: int) -> None:
    """Leave out what a killed run had made after the step that it goes on from."""
    rows = read_previews(folder)
    if any(row["step"] > step for row in rows):
        kept = (row for row in rows if row["step"] <= step)
        write_text(folder / LIST, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and all(isinstance(row.get(key), kind) for key, kind in KEYS.items())
