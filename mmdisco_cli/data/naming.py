"""Which files are media, and whose fault it is where one of them cannot be used."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmdisco_cli.errors import DataError, DeviceError, ExitCode, MMDiscoError, describe, exit_code_of

VIDEO_SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".gif", ".flv", ".wmv", ".asf"),
    *(".mpg", ".mpeg", ".vob", ".ts", ".mts", ".m2ts"),
)
SOUND_SUFFIXES = (
    *(
        ".wav",
        ".w64",
        ".aif",
        ".aiff",
        ".caf",
        ".flac",
        ".mp3",
        ".m4a",
        ".aac",
        ".ogg",
        ".oga",
        ".opus",
        ".mka",
        ".wma",
    ),
)
SUFFIXES = (*VIDEO_SUFFIXES, *SOUND_SUFFIXES)
"""Of all files in a folder that are taken for media, wherever a folder of them is named."""
UNUSABLE = (DataError, DeviceError)
"""What `naming` raises: a file that cannot be used, or that takes more memory than there is."""


def has_suffix(path: Path, suffixes: Iterable[str] = SUFFIXES) -> bool:
    """Return whether a file's name ends in one of the suffixes, in either case."""
    return path.suffix.lower() in suffixes


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn whatever goes wrong with one file into one line that names it.

    What this program raises itself, and what ends it, pass through.

    Raises:
        DataError: any exception at all.
        DeviceError: the file asks for more memory than there is.
    """
    try:
        yield
    except MMDiscoError:
        raise
    except Exception as error:
        kind = DeviceError if exit_code_of(error) == ExitCode.DEVICE else DataError
        raise kind(f"{os.fspath(path)}: {describe(error)}") from error
