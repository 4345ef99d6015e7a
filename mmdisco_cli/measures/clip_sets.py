"""Sets of clips as they lie in folders: each decoded once, by all ranks together, with what is unusable and why."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from mmdisco_cli.data.manifest import complete_rows, read_settings
from mmdisco_cli.data.naming import UNUSABLE, VIDEO_SUFFIXES, file_errors, has_suffix
from mmdisco_cli.errors import DataError
from mmdisco_cli.measures.analysis import Analysis
from mmdisco_cli.measures.cache import Cache
from mmdisco_cli.measures.clip import FurtherAnalysis, MeasuredClip, kept_or_measured
from mmdisco_cli.run import console
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.run.progress import progress

LISTED = 20
"""Unusable clips that are named one by one."""
MAY_FAIL = 0.05
"""Share of real clips that may be unusable; of samples none may."""
REAL = ("real", "reference")
"""The rows of real clips."""


@dataclass(frozen=True)
class Measuring:
    """How clips are measured: the analysis that all have, what a protocol adds to it, and where results are kept."""

    analysis: Analysis
    cache: Cache
    further: FurtherAnalysis | None = None


@dataclass(frozen=True)
class ClipSet:
    """The usable clips of a folder, in an order that depends on their bytes alone, and (path, reason) of all others."""

    clips: tuple[MeasuredClip, ...]
    bad: tuple[tuple[Path, str], ...] = ()

    @property
    def total(self) -> int:
        """Return how many clips were given."""
        return len(self.clips) + len(self.bad)

    def by_path(self) -> dict[Path, MeasuredClip]:
        """Return the usable clips by where they lie."""
        return {clip.path: clip for clip in self.clips}


def list_clips(folder: Path) -> list[Path]:
    """Return the clips of a folder and its subfolders by name; of one that `mmdisco sample` wrote, those it lists.

    Hidden ones are left out, links to folders are followed.

    Raises:
        DataError: no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    rows = complete_rows(folder)
    listed = [folder / row["path"] for row in rows]
    if not listed and read_settings(folder) is None:
        listed = sorted(_walk(folder))
    found = [path for path in listed if has_suffix(path, VIDEO_SUFFIXES)]
    if not found:
        others = " to measure as clips: none of its samples has a video for its main file" if rows else ""
        raise DataError(f"{folder}: holds no samples{others}")
    return found


def measure_clips(
    paths: Sequence[Path], how: Measuring, title: str, max_bad: float, ranks: Ranks, root: Path | None = None
) -> ClipSet:
    """Measure every clip, each rank its share; every rank returns the whole set. `root` is the folder of all clips.

    Raises:
        DataError: more than the share `max_bad` is unusable; each is named. Fewer are warned of. Or the cache cannot be
            written.
    """
    own = range(ranks.rank, len(paths), ranks.world)
    # Threads, as many as torch may use: decoding, flow and spectra all run outside of the interpreter.
    with (
        progress(f"measuring {title}", len(own), enabled=ranks.first) as advance,
        ThreadPoolExecutor(torch.get_num_threads()) as pool,
    ):
        found: list[tuple[int, MeasuredClip | str]] = []
        outcomes = pool.map(partial(_measure, root=root, how=how), [paths[index] for index in own])
        for index, one in zip(own, outcomes, strict=True):
            found.append((index, one))
            advance(len(found), {})
    whole = _gathered(found, ranks)
    clips = sorted((one for _, one in whole if isinstance(one, MeasuredClip)), key=lambda one: (one.digest, one.path))
    bad = [(paths[index], one) for index, one in whole if isinstance(one, str)]
    report_unusable(bad, len(paths), title, max_bad, loud=ranks.first)
    return ClipSet(tuple(clips), tuple(bad))


def report_unusable(
    bad: Sequence[tuple[Path, str]], total: int, title: str, max_bad: float, *, loud: bool = True
) -> None:
    """Warn of unusable clips, or raise DataError where they are a larger share than `max_bad` of all."""
    lines = [f"{path}: {reason}" for path, reason in bad[:LISTED]]
    if len(bad) > LISTED:
        lines.append(f"and {len(bad) - LISTED} more")
    if len(bad) > max_bad * total:
        raise DataError("\n".join([*lines, f"{title}: {len(bad)} of {total} clips cannot be used"]))
    for line in lines if loud else ():
        console.warn(f"skipped: {line}")


def _measure(path: Path, root: Path | None, how: Measuring) -> MeasuredClip | str:
    try:
        with file_errors(path):
            clip, keep = kept_or_measured(path, root, how.analysis, how.further, how.cache)
    except UNUSABLE as error:
        return str(error).removeprefix(f"{path}: ")
    keep()
    return clip


def _gathered(found: list[tuple[int, MeasuredClip | str]], ranks: Ranks) -> list[tuple[int, MeasuredClip | str]]:
    """Return what all ranks have found, in order of index."""
    parts: list[list[tuple[int, MeasuredClip | str]]] = [found]
    if ranks.world > 1:
        parts = [[] for _ in range(ranks.world)]
        dist.all_gather_object(parts, found)
    return sorted((item for part in parts for item in part), key=lambda item: item[0])


def _walk(folder: Path) -> Iterator[Path]:
    """Yield what lies in a folder and below it, but for what is hidden there.

    A folder to which several names lead, such as a link to it beside itself, is walked once, by its own name where it
    has one here: no clip counts twice, and a link to a folder above ends nowhere.
    """
    waiting, walked = deque([folder]), set()
    while waiting:
        current = waiting.popleft()
        try:
            status = current.stat()
            children = sorted(path for path in current.iterdir() if not path.name.startswith("."))
        except OSError as error:
            console.warn(f"skipped: {current}: {error.strerror}")
            continue
        if (status.st_dev, status.st_ino) in walked:
            continue
        walked.add((status.st_dev, status.st_ino))
        yield from children
        folders = [path for path in children if path.is_dir()]
        waiting.extendleft(path for path in folders if not path.is_symlink())
        waiting.extend(path for path in folders if path.is_symlink())
