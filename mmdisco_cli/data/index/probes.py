"""Probe many media at once, in processes of their own, and only those that are not remembered."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import Any

from mmdisco_cli.data.breaks import Break, Span
from mmdisco_cli.data.index.memory import Memory, Stamp, stamp_of
from mmdisco_cli.data.naming import UNUSABLE, file_errors
from mmdisco_cli.data.probing import MediaInfo, probe
from mmdisco_cli.data.source import Source, container_of, digest_of, key_of
from mmdisco_cli.errors import DataError
from mmdisco_cli.run.processes import ignore_signals, without_main

FEW = 64
"""Media that are probed sooner than a process starts."""
CHUNK = 8
COMMIT = 256
"""Media whose probes are written together: a disk takes its time over each write."""
ATTEMPTS = 3
Progress = Callable[[int], None]
Outcome = tuple[Any, str]
"""What is remembered of a medium, or None and the reason."""


@dataclass(frozen=True, slots=True)
class Probed:
    """What a medium covers, and the SHA-256 of its bytes."""

    info: MediaInfo
    digest: str


def stamps_of(sources: Sequence[Source]) -> tuple[dict[Source, Stamp], dict[Source, str]]:
    """Return the stamps of the files that media lie in, and of those that are not there why."""
    files: dict[str, Stamp | str] = {}
    for path in dict.fromkeys(map(container_of, sources)):
        try:
            files[path] = stamp_of(path)
        except FileNotFoundError:
            files[path] = "no such file"
        except (OSError, ValueError) as error:
            files[path] = getattr(error, "strerror", None) or str(error)
    found = {source: files[container_of(source)] for source in sources}
    return (
        {source: stamp for source, stamp in found.items() if isinstance(stamp, Stamp)},
        {source: reason for source, reason in found.items() if isinstance(reason, str)},
    )


def probe_all(
    stamps: Mapping[Source, Stamp], memory: Memory, workers: int, progress: Progress
) -> tuple[dict[Source, Probed], dict[Source, str]]:
    """Return what each medium covers, and of those that cannot be used why. Failures are not remembered.

    `progress` receives how many more are done, 0 at least once. What was found outlives an interruption.

    Raises:
        DataError: processes were killed again and again.
    """
    found = _recall(stamps, memory, progress)
    if len(found) == len(stamps):
        return found, {}
    with memory.alone():
        # Another process may have probed the same media meanwhile.
        found |= _recall({s: stamp for s, stamp in stamps.items() if s not in found}, memory, progress)
        missing = [source for source in stamps if source not in found]
        failed: dict[Source, str] = {}
        # Closed at once where something is raised, so that what was learnt is written.
        with closing(_remembered(_outcomes(missing, workers), stamps, memory)) as batches:
            for batch in batches:
                for source, (content, reason) in batch:
                    if content is None:
                        failed[source] = reason
                    else:
                        found[source] = _probed(source, content)
                progress(len(batch))
    return found, failed


def probe_one(source: Source) -> Outcome:
    """Probe and hash a medium; what goes wrong becomes a reason without the file's name."""
    try:
        with file_errors(source):
            return _content(probe(source), digest_of(source)), ""
    except UNUSABLE as error:
        return None, str(error).removeprefix(f"{source}: ")


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _remembered(
    batches: Iterator[list[tuple[Source, Outcome]]], stamps: Mapping[Source, Stamp], memory: Memory
) -> Generator[list[tuple[Source, Outcome]], None, None]:
    """Pass on what is found, and remember it now and then, and at the end however that comes."""
    learnt: list[tuple[bytes, Stamp, Any]] = []
    try:
        for batch in batches:
            learnt += [(key_of(s), stamps[s], content) for s, (content, _) in batch if content is not None]
            if len(learnt) >= COMMIT:
                memory.remember(learnt)
                learnt = []
            yield batch
    finally:
        memory.remember(learnt)


def _recall(stamps: Mapping[Source, Stamp], memory: Memory, progress: Progress) -> dict[Source, Probed]:
    keys = {key_of(source): source for source in stamps}
    known = memory.recall({key: stamps[source] for key, source in keys.items()})
    progress(len(known))
    return {keys[key]: _probed(keys[key], content) for key, content in known.items()}


def _outcomes(sources: Sequence[Source], workers: int) -> Iterator[list[tuple[Source, Outcome]]]:
    """Yield what is found of each medium, some at a time; media whose process was killed are tried again."""
    chunks = [list(sources[first : first + CHUNK]) for first in range(0, len(sources), CHUNK)]
    if len(sources) <= FEW or workers <= 1:
        yield from map(_probe_chunk, chunks)
        return
    left = dict(enumerate(chunks))
    for _ in range(ATTEMPTS):
        try:
            for number, outcomes in _in_processes(left, workers):
                del left[number]
                yield outcomes
            return
        except BrokenProcessPool:
            continue
    raise DataError(
        f"processes that read media were killed {ATTEMPTS} times, lately at {_first(left)} or near it: is memory "
        "short? What was found so far is kept; data.workers=1 goes on in one process"
    )


def _in_processes(
    chunks: Mapping[int, list[Source]], workers: int
) -> Iterator[tuple[int, list[tuple[Source, Outcome]]]]:
    """Yield the number of a chunk and what was found, as chunks are done; raise BrokenProcessPool on a killed one."""
    # Forked processes would share the locks of this one's threads.
    context = multiprocessing.get_context("spawn")
    todo = iter(list(chunks.items()))
    with ProcessPoolExecutor(min(workers, len(chunks)), context, ignore_signals) as pool:
        running: dict[Future[list[tuple[Source, Outcome]]], int] = {}
        try:
            while True:
                with without_main():
                    for number, chunk in islice(todo, 4 * workers - len(running)):
                        running[pool.submit(_probe_chunk, chunk)] = number
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _probe_chunk(chunk: Sequence[Source]) -> list[tuple[Source, Outcome]]:
    return [(source, probe_one(source)) for source in chunk]


def _first(left: Mapping[int, list[Source]]) -> Source:
    return next(iter(left.values()))[0]


def _content(info: MediaInfo, digest: str) -> list[Any]:
    video, audio = ([*_pair(span.start), *_pair(span.stop)] if span else [] for span in (info.video, info.audio))
    breaks = [[one.stream, one.number, *_pair(one.jump), *_pair(one.at)] for one in info.breaks]
    rate, size = _pair(info.rate) if info.rate is not None else [], (info.height, info.width)
    return [digest, _pair(info.zero), video, audio, _pair(info.pixel_aspect), *size, rate, breaks]


def _probed(source: Source, content: list[Any]) -> Probed:
    digest, zero, video, audio, aspect, height, width, rate, breaks = content
    first, second = (Span(Fraction(*s[:2]), Fraction(*s[2:])) if s else None for s in (video, audio))
    known = tuple(Break(one[0], one[1], Fraction(*one[2:4]), Fraction(*one[4:])) for one in breaks)
    frames = Fraction(*rate) if rate else None
    return Probed(
        MediaInfo(source, Fraction(*zero), first, second, Fraction(*aspect), height, width, frames, known), digest
    )


def _pair(value: Fraction) -> list[int]:
    """Return a fraction as what is read back in a tenth of the time that its text takes."""
    return [value.numerator, value.denominator]
