"""The plot of the digits protocol: which digit one modality shows while another shows which, and the share of each."""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

from matplotlib.figure import Figure

from mmdisco_cli.evaluation.plot import save
from mmdisco_cli.toys.digits.agreement import DIGITS, confusion
from mmdisco_cli.toys.digits.reading import Judged


def plot_confusion(path: Path, rows: Mapping[str, Judged]) -> Path:
    """Write a table of 10 by 10 for each pair of modalities and each row of samples, with its counts."""
    pairs = list(combinations(next(iter(rows.values())).verdicts, 2))
    figure = Figure(figsize=(3.4 * len(rows), 3.4 * len(pairs)), dpi=120, layout="constrained")
    panels = figure.subplots(len(pairs), len(rows), squeeze=False)
    for line, (first, second) in zip(panels, pairs, strict=True):
        for panel, (row, judged) in zip(line, rows.items(), strict=True):
            counts = confusion(judged, first, second)
            panel.imshow(counts.numpy(), cmap="Blues", vmin=0, vmax=max(int(counts.max()), 1))
            for a, b in counts.nonzero().tolist():
                shade = "white" if counts[a, b] > counts.max() / 2 else "black"
                panel.text(b, a, str(int(counts[a, b])), ha="center", va="center", fontsize=6, color=shade)
            panel.set(title=row, xlabel=second, ylabel=first, xticks=range(DIGITS), yticks=range(DIGITS))
    return save(figure, path)
