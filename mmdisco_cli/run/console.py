"""Results to stdout, everything else to stderr, both as plain text, independent of the terminal's width."""

import json
import math
import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from mmdisco_cli.errors import Unread


def result(text: str) -> None:
    """Print one line of the result, such as a path; raise Unread where stdout is a closed pipe."""
    try:
        _print(text)
    except BrokenPipeError as error:
        # Discard what is left in the buffer, or the interpreter would report an error at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Unread("the results are not read any more") from error


def record(values: Mapping[str, Any]) -> None:
    """Print one JSON object on a line of the result; infinite numbers and NaN become null."""
    text = json.dumps(_as_json(values), ensure_ascii=False, allow_nan=False)
    # Bytes of a file name that are not UTF-8 are escaped, as in manifest.jsonl.
    result(text.encode(errors="backslashreplace").decode())


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except UnicodeEncodeError:  # a path need not be UTF-8: print its bytes
        sys.stdout.buffer.write(os.fsencode(f"{text}\n"))
        sys.stdout.flush()


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def note(text: str, stream: TextIO | None = None) -> None:
    """Print a line that is not part of the result on stderr; a closed stderr does not end the run."""
    stream = stream or sys.stderr
    try:
        print(text, file=stream, flush=True)
    except OSError:
        # Discard the buffer, which would otherwise fail again at the end and change the exit code.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def open_closed_streams() -> None:
    """Open standard streams closed at the start, as by `2>&-`, on /dev/null: the next file would take their place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115 - open until the process ends
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115


def warn(text: str) -> None:
    """Print a warning."""
    note(f"warning: {text}")


def fail(text: str) -> None:
    """Print an error; each line of the text is one problem."""
    for line in text.splitlines():
        note(f"error: {line}")
