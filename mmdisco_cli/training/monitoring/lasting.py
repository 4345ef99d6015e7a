"""What all signs of failing in curves share: rows of figures, how long a sign lasts, and how it is said."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]
Rows = Sequence[Row]

CHANCE = 2 * math.log(2)
"""The disc loss where real and fake cannot be told apart."""
LEAST_ROWS = 5
"""Rows that a sign which lasts must be seen in, at least."""
SHARE = 4
"""A sign which lasts must last for one part in so many of all steps."""


@dataclass(frozen=True)
class Sign:
    """A sign that a training fails: its name, what is seen, since which step, and which keys to try."""

    name: str
    seen: str
    since: int
    keys: str

    def __str__(self) -> str:
        """Return it in one line."""
        return f"{self.name} since step {self.since}: {self.seen}; try {self.keys}"


def last_of(late: Rows, steps: int) -> Rows:
    """Return the rows of the last quarter of all steps, none where there are not enough of them yet."""
    if not late:
        return []
    begin = late[-1]["step"] - steps / SHARE
    window = [row for row in late if row["step"] > begin]
    return window if len(window) >= LEAST_ROWS and len(window) < len(late) else []


def since_when(late: Rows, holds: Callable[[Row], bool]) -> int:
    """Return the step of the first of the last rows for which something holds without a break."""
    first: int = late[-1]["step"]
    for row in reversed(late):
        if not holds(row):
            break
        first = row["step"]
    return first
