"""Sets of clips as they lie in folders: each watched once, by all ranks together, with what is unusable and why."""

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
from mmdisco_cli.measures.cache import Cache
from mmdisco_cli.measures.watching import Analysis, Watched, digest_of, pack, unpack, watch
from mmdisco_cli.run import console
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.run.progress import progress

LISTED = 20


@dataclass(frozen=True)
class Seen:
    """One usable clip; `root` is the folder that was named, None for the one in which the clip lies."""

    path: Path
    watched: Watched
    root: Path | None = None

    @property
    def name(self) -> str:
        """Return what it shares with its partners in other rows: its path below the folder that was named."""
        return self.path.relative_to(self.root or self.path.parent).as_posix()


@dataclass(frozen=True)
class ClipSet:
    """The usable clips of a folder, in an order that hangs on their bytes alone, and (path, reason) of all others."""

    clips: tuple[Seen, ...]
    bad: tuple[tuple[Path, str], ...] = ()

    @property
    def total(self) -> int:
        """Return how many clips were given."""
        return len(self.clips) + len(self.bad)


def list_clips(folder: Path) -> list[Path]:
    """Return the clips of a folder and its subfolders by name; of one that `mmdisco sample` wrote, those it lists.

    Hidden ones are left out, links to folders are followed.

    Raises:
        DataError: no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder")
    if read_settings(folder) is not None:
        found = [folder / row["path"] for row in complete_rows(folder) if str(row["path"]).endswith(".mp4")]
    else:
        found = sorted(path for path in _walk(folder) if has_suffix(path, VIDEO_SUFFIXES))
    if not found:
        raise DataError(f"{folder}: holds no samples")
    return found


def watch_all(
    paths: Sequence[Path],
    analysis: Analysis,
    cache: Cache,
    title: str,
    max_bad: float,
    ranks: Ranks,
    root: Path | None = None,
) -> ClipSet:
    """Watch every clip, each rank its share; every rank returns the whole set. `root` is the folder of all clips.

    Raises:
        DataError: more than the share `max_bad` is unusable; each is named. Fewer are warned of. Or the cache cannot be
            written.
    """
    own = range(ranks.rank, len(paths), ranks.world)
    # Threads, as many as torch may use: decoding, flow and spectra all run outside of the interpreter.
    with (
        progress(f"watching {title}", len(own), enabled=ranks.first) as advance,
        ThreadPoolExecutor(torch.get_num_threads()) as pool,
    ):
        found: list[tuple[int, Seen | str]] = []
        watch_one = partial(_watch, root=root, analysis=analysis, cache=cache)
        watching = pool.map(watch_one, [paths[index] for index in own])
        for index, one in zip(own, watching, strict=True):
            found.append((index, one))
            advance(len(found), {})
    whole = _gathered(found, ranks)
    clips = sorted((one for _, one in whole if isinstance(one, Seen)), key=lambda one: (one.watched.digest, one.path))
    bad = [(paths[index], one) for index, one in whole if isinstance(one, str)]
    report_bad(bad, len(paths), title, max_bad, loud=ranks.first)
    return ClipSet(tuple(clips), tuple(bad))


def report_bad(bad: Sequence[tuple[Path, str]], total: int, title: str, max_bad: float, *, loud: bool = True) -> None:
    """Warn of unusable clips, or raise DataError where they are too many."""
    lines = [f"{path}: {reason}" for path, reason in bad[:LISTED]]
    if len(bad) > LISTED:
        lines.append(f"and {len(bad) - LISTED} more")
    if len(bad) > max_bad * total:
        raise DataError("\n".join([*lines, f"{title}: {len(bad)} of {total} films cannot be read"]))
    for line in lines if loud else ():
        console.warn(f"skipped: {line}")


def _watch(path: Path, root: Path | None, analysis: Analysis, cache: Cache) -> Seen | str:
    try:
        with file_errors(path):
            digest = digest_of(path) if not path.is_dir() else ""
            kept = cache.get(digest, analysis.name)
            if kept is not None:
                return Seen(path, unpack(digest, kept), root)
            watched = watch(path, analysis, digest)
    except UNUSABLE as error:
        return str(error).removeprefix(f"{path}: ")
    # Not above: a cache that cannot be written says nothing about the clip.
    cache.put(digest, analysis.name, pack(watched))
    return Seen(path, watched, root)


def _gathered(found: list[tuple[int, Seen | str]], ranks: Ranks) -> list[tuple[int, Seen | str]]:
    """Return what all ranks have found, in order of index."""
    parts: list[list[tuple[int, Seen | str]]] = [found]
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
