"""Stopping with the work saved: the handler only sets a flag, which the loop reads between steps."""

import signal
from types import FrameType

import torch

from mmdisco_cli.errors import Stopped
from mmdisco_cli.training.distribution import Ranks, any_rank


class StopFlag:
    """Set by SIGTERM or SIGUSR1 (what clusters send before they take a machine back)."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._signal = ""

    def listen(self) -> "StopFlag":
        """Install the handlers."""
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._set)
        return self

    def _set(self, number: int, frame: FrameType | None) -> None:
        self._signal = signal.Signals(number).name

    def agreed(self, ranks: Ranks) -> bool:
        """Return whether any rank was told to stop, the same answer on all of them."""
        return any_rank(bool(self._signal), ranks, self._device)

    def leave(self, step: int, steps: int) -> None:
        """Raise `Stopped` (exit code 75)."""
        raise Stopped(f"stopped by {self._signal or 'another rank'} at step {step} of {steps}, state saved; run the same command again")
