"""Whether all ranks see one folder, found out before any work: those that do not would wait for files that never come.

On several nodes each rank may have a working directory, and disks, of its own.
"""

import secrets
import time
from pathlib import Path

import torch

from mmdisco_cli.errors import DataError
from mmdisco_cli.run.distribution import Ranks, gathered
from mmdisco_cli.run.files import make_directory

PATIENCE = 60.0
"""Seconds that a network's file system may take to show a new file to another node."""


def require_shared(folder: Path, ranks: Ranks, device: torch.device) -> None:
    """Check that all ranks see what the first one writes into a folder, which is made where it is missing.

    Raises:
        DataError: the folder cannot be made, or, on all ranks alike, some do not see it.
    """
    if ranks.world == 1:
        return
    number = secrets.randbits(48)
    if ranks.first:
        make_directory(folder)
        _trace(folder, number).touch()
    trace = _trace(folder, gathered(number, ranks, device)[0])
    try:
        blind = [rank for rank, missing in enumerate(gathered(not _appears(trace), ranks, device)) if missing]
    finally:
        if ranks.first:
            trace.unlink(missing_ok=True)
    if blind:
        who = "rank" if len(blind) == 1 else "ranks"
        raise DataError(
            f"{folder.absolute()}: {who} {', '.join(map(str, blind))} of {ranks.world} cannot see what rank 0 writes "
            "there; give --out and --bank a folder, by its whole path, on a file system that all nodes share"
        )


def _trace(folder: Path, number: int) -> Path:
    return folder / f".ranks-{number:012x}"


def _appears(path: Path) -> bool:
    end = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True
