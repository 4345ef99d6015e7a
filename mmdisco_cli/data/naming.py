"""Suffixes of media files, and errors that name the file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmdisco_cli.errors import DataError, DeviceError, ExitCode, MMDiscoError, describe, exit_code_of

CACHE_FILES = ("cache.json", "key.json")
"""What a cache of encoded clips says of itself, once it is whole and from its beginning."""
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
"""Suffixes of the files that are read wherever a folder of media is named."""
UNUSABLE = (DataError, DeviceError)
"""What `file_errors` raises: a file cannot be used, or takes more memory than there is."""


def has_suffix(path: Path, suffixes: Iterable[str] = SUFFIXES) -> bool:
    """Return whether a file's name ends in one of the suffixes, in either case."""
    return path.suffix.lower() in suffixes


@contextmanager
def file_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn any exception inside the block into a one-line error that names the file.

    Errors of mmdisco's own, and what ends the process, pass through.

    Raises:
        DataError: any other exception.
        DeviceError: the file takes more memory than there is.
    """
    try:
        yield
    except MMDiscoError:
        raise
    except Exception as error:
        kind = DeviceError if exit_code_of(error) == ExitCode.DEVICE else DataError
        raise kind(f"{os.fspath(path)}: {describe(error)}") from error
