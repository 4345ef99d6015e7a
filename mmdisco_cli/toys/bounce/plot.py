"""The plot of the bounce protocol: events, kinds, distances, and the discriminator by noise level."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmdisco_cli.evaluation.plot import COLOURS, accuracy_curve, bars, figures_of, save
from mmdisco_cli.measures.features import NAMES
from mmdisco_cli.toys.bounce.events import Match

SHOWN = 1000
"""Matched events drawn of each row."""


def plot_bounce(path: Path, matches: Mapping[str, Sequence[Match]], metrics: Mapping[str, Any]) -> Path:
    """Write event figures with intervals, kernel distances, visible size against pitch, and accuracy by log-SNR."""
    figure = Figure(figsize=(13, 3.6), dpi=120, layout="constrained")
    events, marginals, kinds, levels = figure.subplots(1, 4)
    bars(events, {name: figures_of(metrics, name) for name in ("event_iou", "kind_correlation", "material_agreement")})
    events.set_title("events (higher is better)")
    bars(marginals, {name: figures_of(metrics, name) for name in NAMES})
    marginals.set_title("kernel distance to real (lower is better)")
    _kinds(kinds, matches)
    accuracy_curve(levels, metrics.get("accuracy"))
    return save(figure, path)


def _kinds(panel: Axes, matches: Mapping[str, Sequence[Match]]) -> None:
    panel.set(
        title="matched events (axes do not begin at 0)",
        xlabel="radius in video, log2 pixels",
        ylabel="pitch in audio, log2 Hz",
    )
    for row in (row for row in ("independent", "guided") if row in matches):
        pairs = [(video.size, audio.size) for match in matches[row] for video, audio in match.pairs][:SHOWN]
        x, y = zip(*pairs, strict=True) if pairs else ((), ())
        panel.scatter(x, y, s=4, alpha=0.5, linewidths=0, color=COLOURS[row], label=row, rasterized=True)
