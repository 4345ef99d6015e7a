"""Processes that work for this one: how they begin, and who stops them."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

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


def ignore_signals() -> None:
    """Leave it to the parent to stop."""
    for number in (signal.SIGINT, *STOPPING):
        signal.signal(number, signal.SIG_IGN)
