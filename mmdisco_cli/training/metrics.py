"""metrics.jsonl: one JSON object every few steps, and what the progress line shows."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

Show = Callable[[int, int, Mapping[str, float]], None]
"""Called with (step, steps, figures) at every step; decides for itself what to show."""


class MetricsLog:
    """Averages the figures of `every` steps into one line; one file a run, `stage` naming the part of the run."""

    def __init__(self, path: Path, stage: str, every: int, show: Show | None = None, enabled: bool = True) -> None:
        self._path, self._stage, self._every, self._show, self._enabled = path, stage, every, show, enabled
        self._sums: dict[str, float] = {}
        self._count = 0

    def rewind(self, step: int) -> None:
        """Drop lines of this stage written after `step`: a killed run had gone further than its last checkpoint."""
        if not self._enabled or not self._path.exists():
            return
        rows = [json.loads(line) for line in self._path.read_text().splitlines() if line.endswith("}")]
        kept = [row for row in rows if row["stage"] != self._stage or row["step"] <= step]
        self._path.write_text("".join(json.dumps(row) + "\n" for row in kept))

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
