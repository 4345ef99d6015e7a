"""Prompts from the command line or a file; torch-free."""

import codecs
import re
from collections.abc import Sequence
from pathlib import Path

from mmdisco_cli.errors import DataError, UsageError

MARK = "\ufeff"
"""The byte order mark: at the beginning of a file, or between two files joined by `cat`."""
_OTHERS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


def read_prompts(path: Path) -> list[str]:
    """Return the prompts of a UTF-8 file, one a line, without blank lines and without the space around each.

    Lines end in LF, CRLF or CR, and nowhere else; a byte order mark is not part of a prompt.

    Raises:
        DataError: it holds no prompt, or is not UTF-8 text, with the line.
        OSError: it cannot be read.
    """
    lines = _lines(path)
    prompts = [prompt for line in lines if (prompt := line.strip())]
    if not prompts:
        raise DataError(f"{path}: holds no prompt, one a line; leave --prompts out to sample without any")
    return prompts


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, with LF between its lines; errors as for `read_prompts`."""
    return "\n".join(_lines(path))


def _lines(path: Path) -> list[str]:
    data = path.read_bytes()
    for mark, name in _OTHERS:
        if data.startswith(mark):
            raise DataError(f"{path}: is {name} text: save it as UTF-8")
    return [_decoded(path, number, line) for number, line in enumerate(re.split(b"\r\n|\n|\r", data), 1)]


def require_text(prompts: Sequence[str]) -> None:
    """Raise UsageError for a prompt of the command line whose bytes are not UTF-8."""
    for prompt in prompts:
        try:
            prompt.encode()
        except UnicodeEncodeError as error:
            shown = prompt.encode(errors="backslashreplace").decode()
            raise UsageError(f"--prompt {shown}: is not UTF-8 text") from error


def _decoded(path: Path, number: int, line: bytes) -> str:
    try:
        text = line.decode("utf-8").strip(MARK)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}:{number}: is not UTF-8 text ({error.reason} at byte {error.start + 1})") from error
    if "\0" in text:  # as all UTF-16 is full of
        raise DataError(f"{path}:{number}: holds a NUL, which is in no UTF-8 text")
    return text
