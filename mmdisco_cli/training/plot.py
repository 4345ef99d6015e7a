"""loss.png: what metrics.jsonl holds, one panel a stage."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdisco_cli.run.files import replacing
from mmdisco_cli.training.metrics import read_rows

SHARES = ("accuracy", "gain")
"""Figures between 0 and 1, drawn on an axis of their own."""
HIDDEN = ("stage", "step", "grad_norm", "learning_rate", *SHARES)


def read_metrics(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the lines of metrics.jsonl by stage, in order."""
    stages: dict[str, list[dict[str, Any]]] = {}
    for row in read_rows(path):
        stages.setdefault(row["stage"], []).append(row)
    return stages


def last_figures(path: Path) -> dict[str, dict[str, float]]:
    """Return the last figures of every stage, without the optimiser's own."""
    own = ("stage", "step", "grad_norm", "learning_rate")
    return {stage: {k: v for k, v in rows[-1].items() if k not in own} for stage, rows in read_metrics(path).items()}


def plot_losses(metrics: Path, target: Path) -> None:
    """Draw losses on the left axis and shares on the right, over steps; nothing where there are no lines yet.

    Raises:
        DataError: the picture cannot be written.
    """
    stages = read_metrics(metrics)
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
    steps = [row["step"] for row in rows]
    axes.set(title=stage, xlabel="step", ylabel="loss")
    for name in (key for key in rows[-1] if key not in HIDDEN):
        axes.plot(steps, [row.get(name) for row in rows], label=name, linewidth=1)
    if all(row["loss"] > 0 for row in rows):
        axes.set_yscale("log")
    shares = [key for key in SHARES if key in rows[-1]]
    right = axes.twinx() if shares else axes
    for name in shares:
        right.plot(steps, [row.get(name) for row in rows], label=name, linewidth=1, linestyle="--")
    if shares:
        right.set(ylabel=" and ".join(shares))
        right.legend(loc="upper right", fontsize="small")
    axes.legend(loc="lower left", fontsize="small")
    axes.grid(alpha=0.3)
