"""Plots of the protocols that measure videos: rows side by side, and the discriminator by noise level."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mmdisco_cli.measures.features import NAMES
from mmdisco_cli.run.files import replacing

COLOURS = {
    "real": "#6b6b6b",
    "independent": "#c0763a",
    "guided": "#2b5c8a",
    "given_video": "#3f8f6b",
    "given_audio": "#8a5c9a",
}


def plot_clips(path: Path, metrics: Mapping[str, Any]) -> Path:
    """Write alignment with its chance level, kernel distances, and accuracy by log-SNR."""
    figure = Figure(figsize=(10, 3.6), dpi=120, layout="constrained")
    aligned, marginals, levels = figure.subplots(1, 3)
    bars(aligned, {name: figures_of(metrics, name) for name in ("av_align", "av_align_chance")})
    aligned.set_title("onset and motion (higher is better)")
    bars(marginals, {name: figures_of(metrics, name) for name in NAMES})
    marginals.set_title("kernel distance to real (lower is better)")
    accuracy_curve(levels, metrics.get("accuracy"))
    return save(figure, path)


def figures_of(metrics: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a metric's figure by row of clips, those of given clips with them."""
    given = {row: metrics[row].get(name) for row in ("given_video", "given_audio") if row in metrics}
    return {row: figure for row, figure in ({**metrics.get(name, {}), **given}).items() if row in COLOURS and figure}


def bars(panel: Axes, groups: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw a group of bars a metric, one bar a row of clips, each with its interval or two standard errors."""
    rows = list(dict.fromkeys(row for group in groups.values() for row in group))
    width = 0.8 / max(1, len(rows))
    for k, row in enumerate(rows):
        places = [
            place + (k - (len(rows) - 1) / 2) * width for place, group in enumerate(groups.values()) if row in group
        ]
        found = [group[row] for group in groups.values() if row in group]
        values = [figure["value"] or 0.0 for figure in found]
        below, above = zip(*(_reach(figure) for figure in found), strict=True)
        panel.bar(places, values, width, color=COLOURS[row], label=row.replace("_", " "))
        panel.errorbar(places, values, yerr=[below, above], fmt="none", ecolor="black", elinewidth=0.8, capsize=2)
    panel.set_xticks(range(len(groups)), [name.replace("_", "\n") for name in groups])
    panel.axhline(0, color="black", linewidth=0.6)
    if rows:
        # Below the names of the metrics, where it covers no bar.
        panel.legend(fontsize="x-small", frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=3)


def accuracy_curve(panel: Axes, accuracy: Mapping[str, Any] | None) -> None:
    """Draw the accuracy of a discriminator over the log-SNR of its first modality."""
    panel.set(title="discriminator (higher is better)", xlabel="log-SNR", ylabel="accuracy", ylim=(0, 1.02))
    panel.axhline(0.5, color="#999999", linewidth=0.8, linestyle="--")
    if accuracy:
        levels = accuracy["levels"]
        x = [next(iter(level["log_snr"].values())) for level in levels]
        panel.plot(x, [level["value"] for level in levels], marker="o", markersize=3, color=COLOURS["guided"])


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as .png, whole or not at all."""
    with replacing(path) as part:
        figure.savefig(part, format="png")
    return path


def _reach(figure: Mapping[str, Any]) -> tuple[float, float]:
    value = figure["value"]
    if value is None:
        return 0.0, 0.0
    if figure.get("low") is not None:
        return max(0.0, value - figure["low"]), max(0.0, figure["high"] - value)
    error = 2 * (figure.get("error") or 0.0)
    return error, error
