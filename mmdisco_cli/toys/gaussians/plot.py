"""The figure of the gaussians protocol: where the samples lie, and at which noise the score is wrong."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from mmdisco_cli.run.files import replacing

SHOWN = 2000
"""Points of each kind."""
BLUE, RED = "#2b5c8a", "#b5482a"


def plot(
    path: Path, rows: Mapping[str, Tensor], names: Sequence[str], log_snr: Tensor, metrics: Mapping[str, Any]
) -> Path:
    """Write a scatter plot of each row of samples (n, M), a third modality as colour, and the errors over log-SNR."""
    figure = Figure(figsize=(3.4 * (len(rows) + 1) + 0.6, 3.6), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(rows) + 1)
    for panel, (title, points) in zip(panels, rows.items(), strict=False):
        _scatter(panel, title, points[:SHOWN], names)
    _curves(panels[-1], log_snr, metrics["by_level"])
    with replacing(path) as part:
        figure.savefig(part, format="png")
    return path


def _scatter(panel: Axes, title: str, points: Tensor, names: Sequence[str]) -> None:
    x, y, *rest = points.unbind(1)
    # The third modality has as few values as the others: their colours must not blur into one another.
    by_value = {"c": rest[0], "cmap": "turbo", "vmin": -1.8, "vmax": 1.8} if rest else {}
    colour: dict[str, Any] = by_value or {"color": BLUE}
    panel.scatter(x, y, s=4, alpha=0.5, linewidths=0, rasterized=True, **colour)
    panel.set(xlabel=names[0], ylabel=names[1], xlim=(-2, 2), ylim=(-2, 2), aspect="equal")
    panel.set_title(f"{title}, {names[2]} as colour" if rest else title)


def _curves(panel: Axes, log_snr: Tensor, by_level: Mapping[str, Sequence[float]]) -> None:
    residual = [math.nan if value is None else value for value in by_level["residual_error"]]
    panel.plot(log_snr, residual, color=RED, label="residual score")
    panel.plot(log_snr, by_level["joint_error"], color=BLUE, label="joint score")
    panel.plot(log_snr, by_level["residual_share"], color="#888888", linestyle=":", label="share of the residual")
    panel.set(
        title="relative error (lower is better)",
        xlabel="log-SNR",
        ylabel="log scale, from 0.001",
        yscale="log",
        ylim=(1e-3, 3),
    )
    panel.legend(frameon=False, fontsize="small")
