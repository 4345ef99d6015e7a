"""Atomic writing of files, JSON lines, and SHA-256 fingerprints."""

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmdisco_cli.errors import DataError
from mmdisco_cli.run import partial

ESCAPED = "backslashreplace"
"""Error handler that writes surrogates, the bytes of a file name that is not UTF-8, as JSON escapes them."""
SHORT = 16
"""Hexadecimal digits of a fingerprint."""


def cache_folder() -> Path:
    """Return where the user's caches lie."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "mmdisco"


@contextmanager
def replacing(target: Path, *, suffix: str = "") -> Iterator[Path]:
    """Yield a temporary path beside `target` that replaces it on success and is removed on failure.

    Its name begins with a dot, and ends in `suffix` for whoever writes by it.
    Temporary files left by killed processes are removed too. Of two concurrent writers of one target the last one wins.

    Raises:
        DataError: the file cannot be written.
    """
    part = partial.begin(target.parent, suffix)
    try:
        yield part
        part.replace(target)
    except OSError as error:
        raise DataError(f"{target}: cannot write ({error.strerror or error})") from error
    finally:
        partial.end(part)


def write_text(target: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all; bytes of file names that are not UTF-8 are escaped."""
    with replacing(target) as part:
        part.write_text(text, encoding="utf-8", errors=ESCAPED)


def write_json(target: Path, content: Any) -> Path:
    """Write one JSON value, indented, whole or not at all, and return its path."""
    write_text(target, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return target


def make_directory(directory: Path) -> None:
    """Make a directory and its parents; raise DataError where that is impossible."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{directory}: cannot write ({error.strerror})") from error


def append_line(path: Path, row: Mapping[str, Any]) -> None:
    """Append one JSON object as a line, in a single write so that lines of other processes never mix with it.

    Raises:
        DataError: the line cannot be written whole.
    """
    line = (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode(errors=ESCAPED)
    try:
        with path.open("ab+", buffering=0) as file:
            written = file.write(_line_break(file.fileno()) + line)
        if written is None or written < len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError as error:
        raise DataError(f"{path}: cannot write ({error.strerror})") from error


def read_lines(path: Path) -> list[Any]:
    """Return the value of every line of a JSON lines file, None for invalid ones; a missing file has no lines.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    return [_parse(line) for line in text.split("\n")]


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal, read in pieces; raise DataError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def fingerprint(text: str) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of a text, which may hold names that are not UTF-8."""
    return hashlib.sha256(text.encode(errors=ESCAPED)).hexdigest()[:SHORT]


def _line_break(descriptor: int) -> bytes:
    """Return a line break where the last line has none, because a kill cut it off."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    return b"\n" if end and os.pread(descriptor, 1, end - 1) != b"\n" else b""


def _parse(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
