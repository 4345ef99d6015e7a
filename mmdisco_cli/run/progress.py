"""Show that a long job is alive: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

# (steps done, figures to show beside them)
Advance = Callable[[int, Mapping[str, float]], None]

INTERVAL = 30.0


@contextmanager
def progress(title: str, total: int, done: int = 0, *, enabled: bool = True) -> Iterator[Advance]:
    """Yield `advance(done, figures)`; the rate counts from `done`, so a resumed job does not look fast.

    `enabled=False` shows nothing, for every rank but the first.
    """
    if not enabled:
        yield lambda done, figures: None
    elif sys.stderr.isatty():
        with _bar(title, total, done) as advance:
            yield advance
    else:
        yield lines(title, total, done)


def lines(
    title: str,
    total: int,
    done: int = 0,
    stream: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Advance:
    """Return an `advance` that prints the first step, then a line every 30 s, then the last step."""
    start, first, due = clock(), done, 0.0

    def advance(done: int, figures: Mapping[str, float]) -> None:
        nonlocal due
        now = clock()
        if now < due and done < total:
            return
        due = now + INTERVAL
        rate = (done - first) / max(now - start, 1e-9)
        left = (total - done) / rate if rate > 0 else float("inf")
        shown = "".join(f"  {name} {value:.4g}" for name, value in figures.items())
        text = f"{title} {done}/{total} ({100 * done // max(total, 1)}%){shown}  {_rate(rate)}  ETA {_duration(left)}"
        print(text, file=stream or sys.stderr, flush=True)

    return advance


@contextmanager
def _bar(title: str, total: int, done: int) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}", markup=False),
        TimeRemainingColumn(),
    )
    start, first = time.monotonic(), done
    # Beside a bar on the same terminal results go above it; anywhere else they are none of its business.
    with Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty()) as bar:
        task = bar.add_task(title, total=total, completed=done, figures="")

        def advance(done: int, figures: Mapping[str, float]) -> None:
            rate = (done - first) / max(time.monotonic() - start, 1e-9)
            shown = "  ".join([*(f"{name} {value:.4g}" for name, value in figures.items()), _rate(rate)])
            bar.update(task, completed=done, figures=shown)

        yield advance


def _rate(per_second: float) -> str:
    return f"{per_second:.3g}/s" if per_second >= 1 or per_second == 0 else f"{1 / per_second:.3g} s each"


def _duration(seconds: float) -> str:
    if seconds == float("inf"):
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
