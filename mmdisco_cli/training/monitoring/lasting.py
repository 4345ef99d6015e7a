"""What all signs of failing in curves share: rows of figures, how long a sign lasts, and how it is said."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

Row = Mapping[str, Any]
Rows = Sequence[Row]

CHANCE = 2 * math.log(2)
"""The disc loss where real and fake cannot be told apart."""
LEAST_ROWS = 5
"""Rows that a sign which lasts must be seen in, at least."""
LEAST_TUPLES = 64
"""Tuples that a row must be a mean of, at least: the gain of a few may be anything."""
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
    """Return the rows of the last quarter of all steps, or as many as it takes; none where there are too few yet."""
    if not late:
        return []
    begin = late[-1]["step"] - steps / SHARE
    count = max(LEAST_ROWS, sum(row["step"] > begin for row in late))
    return late[-count:] if count < len(late) else []


def pooled(rows: Rows, tuples: int) -> Rows:
    """Return means of as many rows, each of so many `tuples`, as it takes to be of `LEAST_TUPLES`.

    Rows left over at the end are not in any mean; rows that hold enough are returned as they are.
    """
    each = -(-LEAST_TUPLES // max(tuples, 1))
    if each == 1:
        return rows
    return [_mean_row(rows[k : k + each]) for k in range(0, len(rows) - each + 1, each)]


def _mean_row(rows: Rows) -> Row:
    names = [name for name, value in rows[-1].items() if isinstance(value, int | float) and name != "step"]
    means = {name: fmean(row[name] for row in rows if name in row) for name in names}
    return {**rows[-1], **means}


def since_when(late: Rows, holds: Callable[[Row], bool]) -> int:
    """Return the step of the first of the last rows for which something holds without a break."""
    first: int = late[-1]["step"]
    for row in reversed(late):
        if not holds(row):
            break
        first = row["step"]
    return first
