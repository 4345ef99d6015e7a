"""Results to stdout, everything else to stderr, both as plain text that no terminal width can break."""

import json
import sys
from collections.abc import Mapping
from typing import Any


def result(text: str) -> None:
    """Print one line of the result, such as a path."""
    print(text, flush=True)


def record(values: Mapping[str, Any]) -> None:
    """Print one JSON object on a line of the result."""
    print(json.dumps(values, ensure_ascii=False), flush=True)


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
