"""Progress of a long job: a bar on a terminal, elsewhere a plain line every 30 seconds."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from mmdisco_cli.run.console import note

# (steps done, numbers to display beside them)
Advance = Callable[[int, Mapping[str, float]], None]
Clock = Callable[[], float]

INTERVAL = 30.0
DAY = 86400


@contextmanager
def progress(title: str, total: int, done: int = 0, *, enabled: bool = True) -> Iterator[Advance]:
    """Yield `advance(done, figures)`; the rate counts from `done`, so that a resumed job does not look fast.

    `enabled=False` displays nothing, for all ranks but the first.
    """
    if not enabled:
        yield lambda done, figures: None
    elif sys.stderr.isatty():
        with _bar(title, total, done) as advance:
            yield advance
    else:
        yield lines(title, total, done)


def lines(
    title: str, total: int, done: int = 0, stream: TextIO | None = None, clock: Clock = time.monotonic
) -> Advance:
    """Return an `advance` that prints the first step, then a line every 30 s, then the last step, once."""
    pace, due, ended = Pace(total, done, clock), 0.0, False

    def advance(done: int, figures: Mapping[str, float]) -> None:
        nonlocal due, ended
        now = clock()
        if ended or (now < due and done < total):
            return
        due, ended = now + INTERVAL, done >= total
        shown = "".join(f"  {one}" for one in (*format_figures(figures), *pace.at(done, now)))
        percent = 100 * min(done, total) // total if total else 100
        note(f"{title} {done}/{total} ({percent}%){shown}", stream)

    return advance


@dataclass
class Pace:
    """The rate of steps, of `total` from `first` on, since this object was made."""

    total: int
    first: int
    clock: Clock = time.monotonic

    def __post_init__(self) -> None:
        self.start = self.clock()

    def at(self, done: int, now: float) -> list[str]:
        """Return the rate and the time left, or the time taken at the end; nothing before the first step."""
        seconds, taken = now - self.start, done - self.first
        rate = taken / seconds if taken > 0 and seconds > 0 else 0.0
        if not rate:
            return []
        left = (self.total - done) / rate
        return [rate_of(rate), f"took {duration(seconds)}" if done >= self.total else f"ETA {duration(left)}"]


@contextmanager
def _bar(title: str, total: int, done: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
    )
    pace = Pace(total, done)
    # Results on the same terminal are printed above the bar; redirected ones are left alone.
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(title, total=total, completed=done, figures="")

        def advance(done: int, figures: Mapping[str, float]) -> None:
            bar.update(
                task, completed=done, figures="  ".join([*format_figures(figures), *pace.at(done, pace.clock())])
            )

        yield advance


def format_figures(figures: Mapping[str, float]) -> list[str]:
    """Return numbers as text with their names, integers with all their digits."""
    return [f"{name} {value if isinstance(value, int) else format(value, '.4g')}" for name, value in figures.items()]


def rate_of(per_second: float) -> str:
    """Return a rate above 0 as text."""
    return f"{per_second:.3g}/s" if per_second >= 1 else f"{1 / per_second:.3g} s each"


def duration(seconds: float) -> str:
    """Return a time as 0:05, 1:02:03, or from a day on 2d 03:04:05."""
    if not math.isfinite(seconds):
        return "unknown"
    whole = round(max(seconds, 0.0))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if whole >= DAY:
        return f"{hours // 24}d {hours % 24:02d}:{minutes:02d}:{rest:02d}"
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
