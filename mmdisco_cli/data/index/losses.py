"""What is left out of a data set and why, and how far its opening has come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mmdisco_cli.data.index.rows import Row
from mmdisco_cli.errors import DataError

Progress = Callable[[int, int], None]
MOST = 100
"""Lines of one kind that anyone reads."""


@dataclass
class Losses:
    """Rows that are left out; those `bad` are missing or broken, and are limited."""

    root: str
    total: int
    max_bad: float
    skipped: list[tuple[str, str]] = field(default_factory=list)
    bad: int = 0

    def add(self, name: str, reason: str, *, bad: bool = True) -> None:
        """Leave a row out."""
        self.skipped.append((name, reason))
        self.bad += bad

    def refuse(self) -> None:
        """Raise DataError where too many rows are bad."""
        if self.bad > self.max_bad * self.total:
            raise DataError(
                f"{self.root}: {self.bad} of {self.total} rows are missing or broken, more than data.max_bad="
                f"{self.max_bad:g} allows ({reasons(self.skipped, self.total)})"
            )


def report_lines(skipped: Sequence[tuple[str, str]], notes: Sequence[tuple[str, str]]) -> tuple[str, ...]:
    """Return a line for each row left out and each remark; of more than MOST of one kind the rest in one, counted."""
    lines = []
    for kind, pairs in (("skipped", skipped), ("note", notes)):
        lines += [f"{kind} {name}: {text}" for name, text in pairs[:MOST]]
        if rest := pairs[MOST:]:
            lines.append(f"{kind} {len(rest)} more: {reasons(rest, len(pairs))}")
    return tuple(lines)


def reasons(skipped: Sequence[tuple[str, str]], of: int) -> str:
    """Return the commonest reasons, how often each came, and of which row first where there are others."""
    counted = Counter(reason for _, reason in skipped).most_common(3)
    whose = {reason: name for name, reason in reversed(skipped)}
    several = len(counted) > 1 or len(skipped) < of
    return "; ".join(f"{n}x {reason}{f', as of {whose[reason]}' if several else ''}" for reason, n in counted)


class Count:
    """How many media are probed and rows are checked, of how many."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total, self._progress, self._done = total, progress, 0

    def add(self, more: int) -> None:
        """Count what was done."""
        self._done += more
        if self._progress and more:
            self._progress(min(self._done, self._total), self._total)


def called(row: Row) -> str:
    """Return what a row is called, and which line says so."""
    return f"{row.name} ({row.origin})" if row.origin else row.name
