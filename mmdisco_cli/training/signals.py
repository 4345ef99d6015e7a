"""Stopping with the work saved: a flag that the loop reads between steps, on which all ranks agree."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import torch

from mmdisco_cli.errors import Stopped
from mmdisco_cli.run.distribution import Ranks, any_rank
from mmdisco_cli.run.signals import SignalFlag


class StopFlag:
    """Set by the signals of `mmdisco_cli.run.signals.STOPPING`."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._flag = SignalFlag()

    @contextmanager
    def listening(self) -> Iterator["StopFlag"]:
        """Listen for the length of a block."""
        with self._flag.listening():
            yield self

    def agreed(self, ranks: Ranks) -> bool:
        """Return whether any rank was told to stop, the same answer on all of them."""
        return any_rank(bool(self._flag.name), ranks, self._device)

    @property
    def told(self) -> bool:
        """Return whether this rank was told to stop; others may not have been."""
        return bool(self._flag.name)

    def leave(self, step: int, steps: int) -> NoReturn:
        """Raise `Stopped` (exit code 75)."""
        self.leave_at(f"at step {step} of {steps}")

    def leave_at(self, where: str) -> NoReturn:
        """Raise `Stopped` (exit code 75), saying where the work stands."""
        who = self._flag.name or "another rank"
        raise Stopped(f"stopped by {who} {where}, state saved; run the same command again")
