"""What was once learnt of files, remembered by path, size and time of change, so that nothing is read twice."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from mmdisco_cli.run.files import cache_folder, make_directory

VERSION = 1
"""Counts up whenever the same file would be described otherwise."""
BATCH = 500


class Stamp(NamedTuple):
    """What changes when a file is written: its size in bytes and the time of its last change in nanoseconds."""

    size: int
    mtime_ns: int


TIMELESS = Stamp(0, 0)
"""Of what is named by its content."""


def default_folder() -> Path:
    """Return where the user's caches lie."""
    return cache_folder()


def stamp_of(path: str) -> Stamp:
    """Return a file's stamp; raise OSError where there is none."""
    found = os.stat(path)  # noqa: PTH116 - a hundred thousand of them
    return Stamp(found.st_size, found.st_mtime_ns)


class Memory:
    """A small database, or nothing where `folder` is None; several processes may use it.

    What cannot be read or written is learnt again: `trouble` says why, and nothing else fails.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.trouble = ""
        self._base: sqlite3.Connection | None = None
        if folder is not None:
            with self._forgiving():
                make_directory(folder)
                self._base = sqlite3.connect(folder / f"media-{VERSION}.sqlite", timeout=60)
                self._base.execute(
                    "CREATE TABLE IF NOT EXISTS learnt "
                    "(name BLOB PRIMARY KEY, size INTEGER, mtime INTEGER, content TEXT) WITHOUT ROWID"
                )

    def recall(self, wanted: Mapping[bytes, Stamp]) -> dict[bytes, Any]:
        """Return what is remembered of each name whose stamp is still the same."""
        found: dict[bytes, Any] = {}
        names = list(wanted)
        with self._forgiving():
            for first in range(0, len(names) if self._base else 0, BATCH):
                rows = [row for row in self._rows(names[first : first + BATCH]) if wanted[row[0]] == row[1:3]]
                with suppress(ValueError):
                    contents = json.loads(f"[{','.join(row[3] for row in rows)}]")
                    found |= zip((row[0] for row in rows), contents, strict=True)
        return found

    def remember(self, learnt: Iterable[tuple[bytes, Stamp, Any]]) -> None:
        """Keep what was learnt of some names, in place of what was known of them."""
        rows = [(name, *stamp, json.dumps(content)) for name, stamp, content in learnt]
        if self._base is None or not rows:
            return
        with self._forgiving(), self._base:
            self._base.executemany("INSERT OR REPLACE INTO learnt VALUES (?, ?, ?, ?)", rows)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait while another process learns: what it finds need not be found twice."""
        if self._base is None or self.folder is None:
            yield
            return
        with (self.folder / "media.lock").open("w") as file:
            with suppress(OSError):  # not every network file system has locks; without them work is only done twice
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def close(self) -> None:
        """Let go of the database."""
        if self._base is not None:
            self._base.close()
            self._base = None

    def _rows(self, names: Sequence[bytes]) -> Iterator[Any]:
        marks = ",".join("?" * len(names))
        assert self._base is not None
        yield from self._base.execute(f"SELECT name, size, mtime, content FROM learnt WHERE name IN ({marks})", names)

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        from mmdisco_cli.errors import DataError

        try:
            yield
        except (sqlite3.Error, OSError, DataError) as error:
            self.trouble = f"nothing can be remembered in {self.folder}: {error}"
            self.close()
