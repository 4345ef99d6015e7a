"""The figures of a training: lines of metrics.jsonl, the progress display, and the plot loss.png."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

from mmdisco_cli.run.files import read_lines, replacing, write_text
from mmdisco_cli.run.progress import Advance, progress

StepCallback = Callable[[int, int, Mapping[str, float]], None]
"""Called with (step, steps, figures) at every step; decides for itself what to show."""
Tracker = Callable[[str, int, Mapping[str, Any]], None]
"""Called with the stage, the step and the figures of every line of metrics.jsonl."""
ProgressCallback = Callable[[int, int], None]
"""Called with (done, total) now and then; it may raise to stop the work."""

OPTIMISER = ("grad_norm", "learning_rate")
"""Figures that are in the file, and neither in the display nor in the plot."""
SHARES = ("accuracy", "gain")
"""Figures between 0 and 1, drawn on an axis of their own."""
HELDOUT = "-heldout"
"""What the stage of a line is followed by whose figures are of held-out clips."""


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl; torn or foreign ones are left out, and a missing file is empty."""
    return [row for row in read_lines(path) if _is_row(row)]


def rows_by_stage(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the lines of metrics.jsonl by stage, in order; those of held-out clips are none of a stage's own."""
    stages: dict[str, list[dict[str, Any]]] = {}
    for row in read_rows(path):
        if not row["stage"].endswith(HELDOUT):
            stages.setdefault(row["stage"], []).append(row)
    return stages


def heldout_rows(path: Path, stage: str) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl with a stage's figures of held-out clips, in order."""
    return [row for row in read_rows(path) if row["stage"] == stage + HELDOUT]


def last_figures(path: Path) -> dict[str, dict[str, float]]:
    """Return the last figures of every stage, without the optimiser's own."""
    left_out = ("stage", "step", *OPTIMISER)
    last = {stage: rows[-1] for stage, rows in rows_by_stage(path).items()}
    return {stage: {k: v for k, v in row.items() if k not in left_out} for stage, row in last.items()}


def not_finite(figures: Mapping[str, Any]) -> str:
    """Return the dotted name of the first figure, however deep, that is not a finite number; empty where all are."""
    for name, value in figures.items():
        if isinstance(value, Mapping) and (below := not_finite(value)):
            return f"{name}.{below}"
        if isinstance(value, float) and not math.isfinite(value):
            return name
    return ""


def _is_row(row: Any) -> bool:
    return isinstance(row, dict) and isinstance(row.get("stage"), str) and type(row.get("step")) is int


class MetricsLog:
    """Averages the figures of `every` steps into one line; one file a run, `stage` naming the part of the run.

    Every line goes to the `trackers` too.
    """

    def __init__(
        self,
        path: Path,
        stage: str,
        every: int,
        report: StepCallback | None = None,
        enabled: bool = True,
        trackers: Sequence[Tracker] = (),
    ) -> None:
        self._path, self._stage, self._every, self._report, self._enabled = path, stage, every, report, enabled
        self._trackers = trackers
        self._sums: dict[str, float] = {}
        self._count = 0

    @property
    def unlogged(self) -> dict[str, float]:
        """Return the sums of the figures since the last line, and under "" how many steps they are of."""
        return {**self._sums, "": self._count} if self._count else {}

    def rewind(self, step: int, unlogged: Mapping[str, float]) -> None:
        """Go back to `step`, whose `unlogged` figures were kept: a killed run had gone further than its checkpoint."""
        self._sums = {name: total for name, total in unlogged.items() if name}
        self._count = int(unlogged.get("", 0))
        if not self._enabled or not self._path.exists():
            return
        own = (self._stage, self._stage + HELDOUT)
        kept = [row for row in read_rows(self._path) if row["stage"] not in own or row["step"] <= step]
        write_text(self._path, "".join(json.dumps(row) + "\n" for row in kept))

    def write(self, step: int, steps: int, figures: Mapping[str, float]) -> dict[str, Any] | None:
        """Take the figures of one step; return the line that they complete, if they do."""
        for name, value in figures.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if self._report:
            self._report(step, steps, figures)
        return self._flush(step) if step % self._every == 0 or step == steps else None

    def write_heldout(self, step: int, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Write a line of figures of held-out clips and return it."""
        return self._append(self._stage + HELDOUT, step, figures)

    def _flush(self, step: int) -> dict[str, Any]:
        means = {name: round(total / self._count, 6) for name, total in self._sums.items()}
        self._sums, self._count = {}, 0
        return self._append(self._stage, step, means)

    def _append(self, stage: str, step: int, figures: Mapping[str, Any]) -> dict[str, Any]:
        row = {"stage": stage, "step": step, **figures}
        if self._enabled:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a") as file:
                file.write(json.dumps(row) + "\n")
            for track in self._trackers:
                track(stage, step, figures)
        return row


class Stages:
    """Give each stage of a run its own progress display, begun when its first step is reported."""

    def __init__(self, enabled: bool) -> None:
        self._enabled, self._stack = enabled, ExitStack()
        self._title = ""
        self._advance: Advance = _ignore

    def __enter__(self) -> "Stages":
        """Begin."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Take the last display down."""
        self._stack.close()

    def of(self, title: str) -> StepCallback:
        """Return what a stage reports its steps to."""

        def report(step: int, steps: int, figures: Mapping[str, float]) -> None:
            self._switch(title, step, steps)
            self._advance(step, {name: value for name, value in figures.items() if name not in OPTIMISER})

        return report

    def _switch(self, title: str, done: int, total: int) -> None:
        if title != self._title:
            self._stack.close()
            self._title = title
            self._advance = self._stack.enter_context(progress(title, total, done, enabled=self._enabled))


def hide(title: str) -> StepCallback:
    """Return what shows nothing of a stage."""
    return lambda step, steps, figures: None


def _ignore(done: int, figures: Mapping[str, float]) -> None:
    return None


def plot_losses(metrics: Path, target: Path) -> None:
    """Draw losses on the left axis and shares on the right, over steps; nothing where there are no lines yet.

    Raises:
        DataError: the image cannot be written.
    """
    stages = rows_by_stage(metrics)
    if not stages:
        return
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5 * len(stages), 3.6), layout="constrained")
    for axes, (stage, rows) in zip(figure.subplots(1, len(stages), squeeze=False)[0], stages.items(), strict=True):
        _panel(axes, stage, rows)
    with replacing(target) as part:
        FigureCanvasAgg(figure).print_png(str(part))  # type: ignore[no-untyped-call]


def _panel(axes: Any, stage: str, rows: Sequence[Mapping[str, Any]]) -> None:
    axes.set(title=stage, xlabel="step", ylabel="loss")
    shares = [name for name in SHARES if name in rows[-1]]
    losses = [name for name in rows[-1] if name not in ("stage", "step", *OPTIMISER, *SHARES)]
    _curves(axes, rows, losses, "-")
    if all(row["loss"] > 0 for row in rows):
        axes.set_yscale("log")
    if shares:
        right = axes.twinx()
        _curves(right, rows, shares, "--")
        right.set(ylabel=" and ".join(shares))
        right.legend(loc="upper right", fontsize="small")
    axes.legend(loc="lower left", fontsize="small")
    axes.grid(alpha=0.3)


def _curves(axes: Any, rows: Sequence[Mapping[str, Any]], names: Sequence[str], style: str) -> None:
    for name in names:
        axes.plot([row["step"] for row in rows], [row.get(name) for row in rows], style, label=name, linewidth=1)
