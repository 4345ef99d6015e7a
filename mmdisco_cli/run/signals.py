"""Stopping between two steps: a signal's handler only sets a flag, which whoever works reads when it can stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPING = (signal.SIGTERM, signal.SIGUSR1)
"""What clusters send before they take a machine back."""


class SignalFlag:
    """Remember which of SIGTERM and SIGUSR1 has come, if any."""

    def __init__(self) -> None:
        self.name = ""

    def set(self, number: int, frame: FrameType | None = None) -> None:
        """Note a signal; a handler."""
        self.name = signal.Signals(number).name

    def install(self) -> None:
        """Listen until the process ends."""
        for number in STOPPING:
            signal.signal(number, self.set)

    @contextmanager
    def listening(self) -> Iterator["SignalFlag"]:
        """Listen for the length of a block; outside the main thread, which alone may, do nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        before = {number: signal.signal(number, self.set) for number in STOPPING}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
