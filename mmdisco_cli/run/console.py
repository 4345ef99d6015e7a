"""Results to stdout, everything else to stderr, both as plain text that no terminal width can break."""

import json
import math
import os
import sys
from collections.abc import Mapping
from typing import Any

from mmdisco_cli.errors import Unread


def result(text: str) -> None:
    """Print one line of the result, such as a path; raise Unread where nobody reads it."""
    try:
        _print(text)
    except BrokenPipeError as error:
        # What is left in the buffer is for nobody: without this the interpreter would complain of it at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise Unread("the results are not read any more") from error


def record(values: Mapping[str, Any]) -> None:
    """Print one JSON object on a line of the result; numbers that JSON does not have become null."""
    text = json.dumps(_as_json(values), ensure_ascii=False, allow_nan=False)
    # Bytes of a file name that are no UTF-8 become what JSON escapes them to, as in manifest.jsonl.
    result(text.encode(errors="backslashreplace").decode())


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except UnicodeEncodeError:  # a path need not be UTF-8: its bytes are what opens it
        sys.stdout.buffer.write(os.fsencode(f"{text}\n"))
        sys.stdout.flush()


def _as_json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_as_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def note(text: str) -> None:
    """Tell the user something that is no part of the result."""
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Tell the user of something to look at."""
    note(f"warning: {text}")


def fail(text: str) -> None:
    """Say what went wrong, each line a problem of its own."""
    for line in text.splitlines():
        note(f"error: {line}")
