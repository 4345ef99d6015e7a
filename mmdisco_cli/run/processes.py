"""Processes that work for this one: how they begin, and who stops them."""

import signal
import sys
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import active_children

from mmdisco_cli.run.signals import STOPPING


@contextmanager
def without_main() -> Iterator[None]:
    """Keep processes that begin meanwhile from running the user's script again: nothing of it is needed there."""
    main = sys.modules["__main__"]
    kept = {name: value for name in ("__spec__", "__file__") if (value := getattr(main, name, None)) is not None}
    for name in kept:
        setattr(main, name, None)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(main, name, value)


@contextmanager
def none_left_of_broken_pools() -> Iterator[None]:
    """Kill the processes that began inside where one of their pool was killed.

    A pool ends the others by SIGTERM, which `ignore_signals` leaves to the parent, and from Python 3.12 on waits for
    them without end.
    """
    before = set(active_children())
    try:
        yield
    except BrokenProcessPool:
        for process in set(active_children()) - before:
            process.kill()
        raise


def ignore_signals() -> None:
    """Leave it to the parent to stop."""
    for number in (signal.SIGINT, *STOPPING):
        signal.signal(number, signal.SIG_IGN)
