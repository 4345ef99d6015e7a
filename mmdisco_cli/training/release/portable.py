"""A description without the paths of the machine that it was made on."""

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any


def portable(value: Any) -> Any:
    """Return plain data in which every path that leads outside of the working directory is only a name."""
    if isinstance(value, Mapping):
        return {key: portable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [portable(item) for item in value]
    return PurePath(value).name if isinstance(value, str) and is_local(value) else value


def is_local(text: str) -> bool:
    """Return whether a text is a path that means nothing on another machine."""
    path = PurePath(text)
    return path.is_absolute() or text.startswith("~") or ".." in path.parts
