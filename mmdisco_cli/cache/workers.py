"""Media of clips, read ahead of their encoding by worker processes of a DataLoader."""

import pickle
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils import data as torch_data

from mmdisco_cli.data.contract import Compact, Dataset
from mmdisco_cli.data.index.probes import available_cores
from mmdisco_cli.errors import (
    DataError,
    DeviceError,
    ExitCode,
    PluginError,
    UsageError,
    describe,
    exit_code_of,
)
from mmdisco_cli.run.processes import ignore_signals, without_main
from mmdisco_cli.run.ranks import local_world

FEW = 64
"""Clips that are read sooner than a process starts."""
AHEAD = 2
"""Chunks that each worker may be ahead."""
Chunk = tuple[str, Sequence[int]]
"""A part of the data, and the numbers of clips in it."""
_OF_WORKERS = "DataLoader worker"
_KINDS = {kind.exit_code: kind for kind in (UsageError, PluginError, DataError, DeviceError)}


@dataclass(frozen=True)
class Read:
    """The clips of a chunk that could be read, with their media (B, ...), compact or not, and of the others why not."""

    rows: list[int]
    media: dict[str, Tensor]
    lost: list[tuple[int, str]]


@dataclass(frozen=True)
class Reader(torch_data.Dataset[Read]):
    """Parts of a data set, as DataLoader reads them: by chunk; `shapes` are those of a clip's media, by modality."""

    parts: Mapping[str, Dataset]
    shapes: Mapping[str, tuple[int, ...]]

    def __getitem__(self, chunk: Chunk) -> Read:
        """Return what of a chunk can be read; errors other than of the clips themselves are raised."""
        part, rows = chunk
        try:
            return Read(list(rows), self._media(part, rows), [])
        except Exception as error:
            # Clips of several shapes cannot be stacked: a data set that tries to raises what torch or NumPy do.
            if exit_code_of(error) != ExitCode.DATA and not isinstance(error, RuntimeError | ValueError):
                raise
            return self._one_by_one(part, rows)

    def _one_by_one(self, part: str, rows: Sequence[int]) -> Read:
        found: dict[int, dict[str, Tensor]] = {}
        lost = []
        for row in rows:
            try:
                found[row] = self._media(part, [row])
            except Exception as error:
                if exit_code_of(error) != ExitCode.DATA:
                    raise
                lost.append((row, describe(error)))
        media = {m: torch.cat([clip[m] for clip in found.values()]) for m in self.shapes} if found else {}
        return Read(list(found), media, lost)

    def _media(self, part: str, rows: Sequence[int]) -> dict[str, Tensor]:
        dataset = self.parts[part]
        read = dataset.compact if isinstance(dataset, Compact) else dataset.media
        found = read(rows, tuple(self.shapes))
        return {m: self._whole(found[m], rows, m) for m in self.shapes}

    def _whole(self, media: Tensor, rows: Sequence[int], modality: str) -> Tensor:
        """Return the media; raise DataError where they are not one clip a row, each of the shape that the model has."""
        if tuple(media.shape) != (len(rows), *self.shapes[modality]):
            # Said of one clip: those of a chunk that does not fit are read again one by one.
            found, wanted = tuple(media.shape[1:]), tuple(self.shapes[modality])
            raise DataError(f"clip {rows[0]}: {modality} is {found}, but the model takes {wanted}")
        return media


@dataclass(frozen=True)
class _Failure:
    """What a worker met: its exception may not survive the way to the parent, and torch adds a traceback to it."""

    text: str
    code: ExitCode


@dataclass(frozen=True)
class _Guarded(torch_data.Dataset[Any]):
    reader: Reader

    def __getitem__(self, chunk: Chunk) -> Any:
        try:
            return self.reader[chunk]
        except Exception as error:
            return _Failure(describe(error), exit_code_of(error))


def workers_of(options: Any) -> int:
    """Return how many processes read a data set: its option `workers`, by default this process's share of the cores.

    A data set without such an option is read by the process that encodes it.
    """
    if not hasattr(options, "workers"):
        return 0
    return int(options.workers or max(1, available_cores() // local_world()))


def worth_starting(reader: Reader, rows: int, workers: int) -> int:
    """Return how many processes shall read this many clips: none for few, or where processes cannot be given them."""
    return workers if workers > 1 and rows > FEW and _can_be_sent(reader) else 0


@contextmanager
def reading(reader: Reader, chunks: Iterable[Chunk], workers: int) -> Iterator[Iterator[Read]]:
    """Yield an iterator over what is read of each chunk, in their order.

    `workers` processes are ahead of it; without any it reads itself.

    Raises:
        DataError: a worker was killed, inside the block or where it reads.
    """
    if not workers:
        yield map(reader.__getitem__, chunks)
        return
    with worker_errors(), _stream(reader, chunks, workers) as stream:
        yield stream


@contextmanager
def worker_errors() -> Iterator[None]:
    """Raise DataError where a worker was killed: torch raises wherever the signal of its death finds the parent."""
    try:
        yield
    except RuntimeError as error:
        if _OF_WORKERS not in str(error):
            raise
        raise DataError(_ended(f"{error} {error.__cause__}")) from error  # which of the two says how, varies


@contextmanager
def _stream(reader: Reader, chunks: Iterable[Chunk], workers: int) -> Iterator[Iterator[Read]]:
    loader = torch_data.DataLoader(
        _Guarded(reader),
        batch_size=None,
        sampler=chunks,  # an iterable of unknown length
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=_begin,
        prefetch_factor=AHEAD,
        # Forked processes would share the locks of this one's threads, and its CUDA context.
        multiprocessing_context="spawn",
        # Its own: the global one belongs to the initialisation of networks.
        generator=torch.Generator(),
    )
    with without_main():
        items = iter(loader)
    try:
        yield _passed_on(items)
    finally:
        # Not left to the garbage collector: until then the death of a worker would be raised anywhere, again.
        with suppress(RuntimeError):
            getattr(items, "_shutdown_workers", _nothing)()


def _nothing() -> None:
    return None


def _passed_on(items: Iterator[Any]) -> Iterator[Read]:
    try:
        for item in items:
            yield _unguarded(item)
    except (EOFError, ConnectionError, FileNotFoundError) as error:  # it died while it handed something over
        raise DataError(_ended("")) from error


def _unguarded(item: Read | _Failure) -> Read:
    if isinstance(item, Read):
        return item
    raise _KINDS.get(item.code, RuntimeError)(item.text)


def _as_it_is(item: Any) -> Any:
    return item


def _begin(number: int) -> None:
    ignore_signals()
    torch.set_num_threads(1)


def _can_be_sent(reader: Reader) -> bool:
    try:
        sent = pickle.dumps(reader)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
    return b"__main__" not in sent  # a script's or notebook's own classes: a process that begins has none of them


def _ended(text: str) -> str:
    if code := re.search(r"exited unexpectedly with exit code (\d+)", text):
        return (
            f"a process that reads clips ended with exit code {code[1]} (why stands above). What was made so far is "
            "kept: run the same command again, reading without processes (data.workers=1)"
        )
    how = "a signal" if "signal" not in text else text.partition("signal: ")[2].split(".")[0] or "a signal"
    shared = " or shared memory (/dev/shm)" if "Bus error" in text else ""
    return (
        f"a process that reads clips was ended by {how}: is memory{shared} short? What was made so far is kept: run "
        "the same command again, with fewer processes (data.workers)"
    )
