"""Processes that work for this one: how they begin, and who stops them."""

import os
import signal
import sys
import threading
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
    """Leave it to the parent to stop; on Linux, end by SIGTERM that comes from it.

    So a pool ends the others where one of its processes was killed, and from Python 3.12 on it waits for their end.
    """
    for number in (signal.SIGINT, *STOPPING):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":  # elsewhere nothing tells who sent a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_by, args=(os.getppid(),), daemon=True).start()


def _end_by(parent: int) -> None:
    """Wait for SIGTERM of a process, and end."""
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(128 + signal.SIGTERM)
