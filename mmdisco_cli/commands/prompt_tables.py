"""Tables of prompts, `.csv` and `.jsonl`, with one text a row or one for each modality; torch-free.

The text for all modalities is in the column `caption`, `prompt` or `text`, that of one modality in `caption_MODALITY`,
as `caption_audio`.
"""

import csv
import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmdisco_cli.commands.prompts import read_prompts, read_text
from mmdisco_cli.errors import DataError, UsageError, did_you_mean

COMMON = ("caption", "prompt", "text")
OWN = "caption_"


class Prompt(NamedTuple):
    """One row: the text for all modalities, and those of single ones by modality, which come first."""

    text: str
    own: Mapping[str, str]

    @property
    def shown(self) -> str:
        """Return the text for all modalities; without any, the others in a row."""
        return self.text or " / ".join(dict.fromkeys(self.own.values()))


def read_table(path: Path) -> list[Prompt]:
    """Return the prompts of a file: a table by its suffix, else a text with one a line.

    Raises:
        DataError: it is damaged, has no column of texts, or a row without any.
        OSError: it cannot be read.
    """
    reader = {".csv": _csv_rows, ".jsonl": _json_rows}.get(path.suffix.lower())
    if reader is None:
        return [Prompt(text, {}) for text in read_prompts(path)]
    prompts = [_prompt(path, line, row) for line, row in reader(path, read_text(path))]
    if not prompts:
        raise DataError(f"{path}: holds no prompt; leave --prompts out to sample without any")
    return prompts


def require_modalities(path: Path, prompts: Sequence[Prompt], modalities: Collection[str]) -> None:
    """Raise UsageError where a table has texts of other modalities than a recipe, or leaves one without any."""
    for prompt in prompts:
        for m in prompt.own:
            if m not in modalities:
                raise UsageError(f"--prompts {path}: {OWN}{m}: unknown modality{did_you_mean(m, modalities)}")
        if not prompt.text and (bare := [m for m in modalities if m not in prompt.own]):
            raise UsageError(f"--prompts {path}: no text for {' and '.join(bare)}: add caption or {OWN}{bare[0]}")


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: is not csv ({error})") from error
    if not rows:
        return
    header = [name.strip().lower() for name in rows[0][1]]
    if not any(map(_is_text, header)):
        raise DataError(f"{path}: has no column {', '.join(COMMON)} or {OWN}MODALITY, only {', '.join(header)}")
    for line, row in rows[1:]:
        if len(row) > len(header):
            raise DataError(
                f"{path}:{line}: has {len(row)} fields, but the header {len(header)}: quote texts with commas"
            )
        yield line, dict(zip(header, row, strict=False))


def _json_rows(path: Path, text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for line, part in enumerate(text.split("\n"), 1):
        if not part.strip():
            continue
        try:
            row = json.loads(part)
        except ValueError as error:
            raise DataError(f"{path}:{line}: is not JSON ({error})") from error
        if not isinstance(row, dict | str):
            raise DataError(f"{path}:{line}: is neither a text nor an object with a text")
        yield line, {"caption": row} if isinstance(row, str) else row


def _prompt(path: Path, line: int, row: Mapping[str, Any]) -> Prompt:
    texts = {key: value for key, value in row.items() if _is_text(key) and value is not None}
    if wrong := [key for key, value in texts.items() if not isinstance(value, str)]:
        raise DataError(f"{path}:{line}: {wrong[0]} is not text")
    found = {key: stripped for key, value in texts.items() if (stripped := value.strip())}
    if not found:
        raise DataError(f"{path}:{line}: has no text")
    own = {key.removeprefix(OWN): value for key, value in found.items() if key.startswith(OWN)}
    return Prompt(next((found[key] for key in COMMON if key in found), ""), own)


def _is_text(column: str) -> bool:
    return column in COMMON or (column.startswith(OWN) and column != OWN)
