"""metrics.jsonl: one JSON object every few steps, and what the progress line shows."""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mmdisco_cli.run.files import read_lines, write_text

Show = Callable[[int, int, Mapping[str, float]], None]
"""Called with (step, steps, figures) at every step; decides for itself what to show."""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl; torn or foreign ones are left out, and a missing file is empty."""
    return [row for row in read_lines(path) if _is_row(row)]


def not_finite(figures: Mapping[str, Any]) -> str:
    """Return the dotted name of the first figure, however deep, that is no finite number; empty where all are."""
    for name, value in figures.items():
        if isinstance(value, Mapping) and (inner := not_finite(value)):
            return f"{name}.{inner}"
        if isinstance(value, float) and not math.isfinite(value):
            return name
    return ""


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("stage"), str) and type(row.get("step")) is int


class MetricsLog:
    """Averages the figures of `every` steps into one line; one file a run, `stage` naming the part of the run."""

    def __init__(self, path: Path, stage: str, every: int, show: Show | None = None, enabled: bool = True) -> None:
        self._path, self._stage, self._every, self._show, self._enabled = path, stage, every, show, enabled
        self._sums: dict[str, float] = {}
        self._count = 0

    @property
    def window(self) -> dict[str, float]:
        """Return the sums of the figures since the last line, and under "" how many steps they are of."""
        return {**self._sums, "": self._count} if self._count else {}

    def rewind(self, step: int, window: Mapping[str, float]) -> None:
        """Go back to `step`, whose `window` was kept: a killed run had gone further than its last checkpoint."""
        self._sums = {name: total for name, total in window.items() if name}
        self._count = int(window.get("", 0))
        if not self._enabled or not self._path.exists():
            return
        kept = [row for row in read_rows(self._path) if row["stage"] != self._stage or row["step"] <= step]
        write_text(self._path, "".join(json.dumps(row) + "\n" for row in kept))

    def write(self, step: int, steps: int, figures: Mapping[str, float]) -> None:
        """Take the figures of one step."""
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if self._show:
            self._show(step, steps, figures)
        if step % self._every == 0 or step == steps:
            self._flush(step)

    def _flush(self, step: int) -> None:
        means = {name: round(total / self._count, 6) for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        if self._enabled:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write(json.dumps({"stage": self._stage, "step": step, **means}) + "\n")
