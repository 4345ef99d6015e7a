"""Temporary files named after the process writing them, so that those of killed processes can be removed."""

import functools
import hashlib
import os
import platform
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path

DAY = 24 * 3600
"""Age in seconds from which a temporary file is abandoned, where its process cannot be looked up."""
_NAME = re.compile(r"\.mmdisco-(?:(?P<place>[0-9a-f]{8})-)?(?P<process>\d+)-[0-9a-f]{8}\.part(?:\.\w+)*")

_ours: set[str] = set()
"""Names of the files that this process is writing."""


def begin(folder: Path, suffix: str = "") -> Path:
    """Return a new temporary path in a folder, after removing those of killed processes there; it ends in `suffix`."""
    sweep(folder.absolute())
    part = folder / f".mmdisco-{_place()}-{os.getpid()}-{secrets.token_hex(4)}.part{suffix}"
    _ours.add(part.name)
    return part


def end(part: Path) -> None:
    """Remove a temporary file of this process if it still exists."""
    _ours.discard(part.name)
    with suppress(NotADirectoryError):  # its folder is a file, which the writer has been told of
        part.unlink(missing_ok=True)


@functools.cache
def sweep(folder: Path) -> None:
    """Remove, once in a process, temporary files of processes that have ended, but none that may still be written.

    Several machines may write to one folder, and a process can be looked up on its own machine only: files from
    elsewhere are removed when they have not changed for a day.
    """
    try:
        parts = [Path(entry.path) for entry in os.scandir(folder) if _NAME.fullmatch(entry.name)]
    except OSError:  # writing there will raise the error
        return
    for part in parts:
        try:
            if not _is_live(part):
                part.unlink()
        except OSError:  # just renamed, or another user's
            continue


def _is_live(part: Path) -> bool:
    name = _NAME.fullmatch(part.name)
    place, process = (name["place"], int(name["process"])) if name else (None, 0)
    if place != _place() or not Path("/proc/self").exists():
        return time.time() - part.stat().st_mtime < DAY
    return part.name in _ours if process == os.getpid() else _runs(process)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


@functools.cache
def _place() -> str:
    """Return a hash of where process numbers are unique: a machine since its start, or a container on it."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    try:
        unique = [boot.read_text(), str(Path("/proc/self/ns/pid").readlink())]
    except OSError:
        unique = []
    return hashlib.sha256("\n".join([platform.node(), *unique]).encode(errors="replace")).hexdigest()[:8]
