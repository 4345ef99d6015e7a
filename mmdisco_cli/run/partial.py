"""Temporary files that name the process writing them, so that what a kill has left can be told from live work."""

import functools
import hashlib
import os
import platform
import re
import secrets
import time
from pathlib import Path

DAY = 24 * 3600
"""Seconds after which an untouched temporary file is nobody's, where its process cannot be asked for."""
_NAME = re.compile(r"\.mmdisco-(?:(?P<place>[0-9a-f]{8})-)?(?P<process>\d+)-[0-9a-f]{8}\.part")

_ours: set[str] = set()
"""Names of what this process is writing."""


def begin(folder: Path) -> Path:
    """Return a new name in a folder, which is first rid of what killed processes have left there."""
    sweep(folder.absolute())
    part = folder / f".mmdisco-{_place()}-{os.getpid()}-{secrets.token_hex(4)}.part"
    _ours.add(part.name)
    return part


def end(part: Path) -> None:
    """Remove a temporary file of this process where it still is."""
    part.unlink(missing_ok=True)
    _ours.discard(part.name)


@functools.cache
def sweep(folder: Path) -> None:
    """Remove, once a process, temporary files of processes that have ended, but none that anybody may be writing.

    Several machines may write one folder, and a process can be asked for only where it runs: files from elsewhere are
    left until nobody has touched them for a day.
    """
    try:
        parts = [Path(entry.path) for entry in os.scandir(folder) if _NAME.fullmatch(entry.name)]
    except OSError:  # whoever writes there says why
        return
    for part in parts:
        try:
            if not _is_live(part):
                part.unlink()
        except OSError:  # just put in its place, or another user's
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
    """Name where process numbers are unique: one start of one machine, or of a container in it."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    try:
        inner = [boot.read_text(), str(Path("/proc/self/ns/pid").readlink())]
    except OSError:
        inner = []
    return hashlib.sha256("\n".join([platform.node(), *inner]).encode(errors="replace")).hexdigest()[:8]
