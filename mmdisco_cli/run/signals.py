"""Stopping between two steps: a signal's handler only sets a flag, which whoever works reads when it can stop."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from mmdisco_cli.errors import Stopped

STOPPING = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU)
"""What clusters send before they take a machine back or a limit is reached, and a terminal that is closed."""
Handler = Callable[[int, FrameType | None], None]


class SignalFlag:
    """Remember which of `STOPPING` has come, if any.

    It knows of this process alone; whoever works beside other ranks has to agree with them before it leaves.
    """

    def __init__(self) -> None:
        self.name = ""

    @property
    def received(self) -> bool:
        """Return whether a signal has come."""
        return bool(self.name)

    def leave(self, where: str) -> NoReturn:
        """Raise `Stopped` (exit code 75), saying where the work stands, all of it saved."""
        who = self.name or "another rank"
        raise Stopped(f"stopped by {who} {where}, state saved; run the same command again")

    def set(self, number: int, frame: FrameType | None = None) -> None:
        """Note a signal; a handler."""
        self.name = signal.Signals(number).name
        if number == signal.SIGHUP:
            _leave_the_terminal()

    @contextmanager
    def listening(self) -> Iterator["SignalFlag"]:
        """Listen for the length of a block; outside the main thread, which alone may, do nothing."""
        with _handled_by(self.set):
            yield self


class _Signalled(BaseException):
    """A signal came where nothing reads a flag; no `except Exception` on the way may take it for a fault."""


@contextmanager
def stopping() -> Iterator[None]:
    """Let a signal end a block as Ctrl-C would: what is written is whole, and the same command goes on from there.

    Raises:
        Stopped: a signal came while no `SignalFlag` was listening.
    """
    came: list[str] = []

    def leave(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _leave_the_terminal()
        if not came:  # a second one must not break what the first has begun to clear up
            came.append(signal.Signals(number).name)
            raise _Signalled

    try:
        with _handled_by(leave):
            yield
    except _Signalled:
        raise Stopped(f"stopped by {came[0]}; run the same command again") from None


@contextmanager
def _handled_by(handler: Handler) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = _install(handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, signal.SIG_DFL if old is None else old)


def _install(handler: Handler) -> dict[signal.Signals, Handler | int | None]:
    """Set the handler, but for a SIGHUP that is ignored, as under nohup; return what was there."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    handled = [number for number in STOPPING if not (ignored and number == signal.SIGHUP)]
    return {number: signal.signal(number, handler) for number in handled}


def _leave_the_terminal() -> None:
    """Print to nowhere from here on where the terminal is gone: every line would fail, and end the work with it."""
    for stream in (1, 2):
        try:
            os.write(stream, b"")
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream)
            os.close(nowhere)
