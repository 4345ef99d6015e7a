"""The parts of `progress.html`, as HTML of figures that are there already."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import TypeVar

from mmdisco_cli.page.curves import Curve, Level, Point, curves_panel, spelt_number
from mmdisco_cli.page.naming import heading
from mmdisco_cli.training.monitoring.lasting import CHANCE, LEAST_ROWS, Rows, Sign
from mmdisco_cli.training.monitoring.signs import BY_LEVEL, Measure

LEFT_OUT = ("stage", "step", "learning_rate")
T = TypeVar("T")
TITLES = {
    "loss": ("Loss", "of training, weighted"),
    "disc": ("Classification loss, Eq. (4)", ""),
    "denoise": ("Denoising loss, Eq. (5)", ""),
    "gain": ("Gain", "share of the base models' denoising error that guidance removes"),
    "accuracy": ("Accuracy", "real pairs distinguished from fakes"),
    "interaction": ("Interaction", "how much the logit depends on the pair, 0 to 1"),
    "grad_norm": ("Norm of the gradient", "before it is clipped"),
    "x0_error": ("Error of x_0", "of clips with noise, in units of their variance"),
}
SHORT = {
    "disc": "classification loss",
    "denoise": "denoising loss",
    "gain": "gain",
    "accuracy": "accuracy",
    "x0_error": "error of x_0",
}
LEVELS = {"disc": Level("chance", CHANCE), "accuracy": Level("chance", 0.5), "gain": Level("no gain", 0.0)}
MOST_TIMES = 6
"""Measurements whose gain by level is drawn."""
MOST_STEPS = 12
"""Steps whose previews are shown."""


@dataclass(frozen=True)
class Preview:
    """One sample at one step, shown by `html`."""

    step: int
    index: int
    prompt: str
    html: str


def head_html(name: str, stage: str, steps: int, rows: Rows, heldout: Rows, best: Measure, state: str) -> str:
    """Return what is trained, how far it is and in which `state`, the last figures, and which weights are the best."""
    step = max([row["step"] for row in (*rows[-1:], *heldout[-1:])], default=0)
    figures = _tiles(rows, "training", "training") + _tiles(heldout, "held-out", "heldout")
    far = f"{stage} · step {step} of {steps} · {state}"
    return (
        f"<header><div><h1>Training {escape(name)}</h1><p>{escape(far)}</p></div>"
        f'</header>\n<div class="done" role="progressbar" aria-label="steps" aria-valuemin="0" aria-valuemax="{steps}" '
        f'aria-valuenow="{step}"><i style="width:{100 * step / max(steps, 1):.2f}%"></i></div>\n'
        f'<div class="state">{figures}</div>\n{_best(heldout, best)}'
    )


def _best(heldout: Rows, measure: Measure) -> str:
    row = measure.best_of(heldout)
    if row is None:
        return ""
    said = f"{SHORT.get(measure.name, measure.name)} {spelt_number(row[measure.name])}"
    return f'<p class="note">Best on held-out clips: step {row["step"]}, {said}</p>\n'


def _tiles(rows: Rows, of: str, look: str) -> str:
    shown = [name for name in SHORT if rows and name in rows[-1]]
    return "".join(
        f'<div class="tile c-{look}"><b>{spelt_number(rows[-1][name])}</b><span>{SHORT[name]}, {of}</span></div>'
        for name in shown
    )


def signs_html(signs: Sequence[Sign], rows: Rows, heldout: Rows, failed: str = "") -> str:
    """Return every sign of failing with what to try, or that there is none; above them what ended the training."""
    warnings = [
        (f"{sign.name.capitalize()} since step {sign.since}", f"{sign.seen}. Try {sign.keys}.") for sign in signs
    ]
    warnings = [("Training has ended before its last step", failed), *warnings] if failed else warnings
    if not warnings:
        text = _no_sign(rows, heldout)
        return f'<h2>Warnings</h2>\n<section class="verdict good"><p class="because">{text}</p></section>\n'
    boxes = "".join(
        f'<section class="verdict bad"><p class="says">{escape(says)}</p>'
        f'<p class="because">{escape(because)}</p></section>'
        for says, because in warnings
    )
    return f"<h2>Warnings</h2>\n{boxes}\n"


def _no_sign(rows: Rows, heldout: Rows) -> str:
    """Say that there is no sign of failing, and which would not show."""
    if not rows:
        return "Nothing to see yet."
    few = "" if len(rows) > LEAST_ROWS else " There are too few lines of figures yet for a collapse to show."
    looked = "" if heldout else " Nothing is measured on held-out clips yet, so overfitting would not show."
    return f"No sign of failing.{few}{looked}"


def curves_html(rows: Rows, heldout: Rows) -> str:
    """Return a panel a figure, training beside held-out clips, and the gain by noise level through time."""
    names = [*(rows[-1] if rows else ()), *(heldout[-1] if heldout else ())]
    known = [name for name in dict.fromkeys(names) if name not in (*LEFT_OUT, BY_LEVEL, "grad_norm")]
    panels = [_panel(name, rows, heldout) for name in (*known, "grad_norm")]
    place = 1 + known.index("gain") if "gain" in known else len(known)
    panels.insert(place, by_level_html(heldout))
    return f'<h2>Curves</h2>\n<div class="panels">{"".join(panels)}</div>\n'


def _panel(name: str, rows: Rows, heldout: Rows) -> str:
    title, note = TITLES.get(name, (heading(name), ""))
    curves = [Curve("training", _points(rows, name), "training"), Curve("held-out", _points(heldout, name), "heldout")]
    return curves_panel(title, note, curves, LEVELS.get(name))


def _points(rows: Rows, name: str) -> list[Point]:
    return [(row["step"], row[name]) for row in rows if isinstance(row.get(name), int | float)]


def by_level_html(heldout: Rows) -> str:
    """Return the gain over log-SNR, a curve for each of some measurements, the later the stronger."""
    known = [row for row in heldout if row.get(BY_LEVEL)]
    shown = evenly(known, MOST_TIMES)
    curves = [
        Curve(
            f"step {row['step']}",
            sorted((float(level), gain) for level, gain in row[BY_LEVEL].items()),
            "time",
            (k + 1) / len(shown),
            last=False,
        )
        for k, row in enumerate(shown)
    ]
    note = "of held-out clips, from noise to data; the later the stronger"
    return curves_panel("Gain by noise level", note, curves, LEVELS["gain"], x="log-SNR")


def previews_html(previews: Sequence[Preview]) -> str:
    """Return the previews of each noise side by side through time."""
    if not previews:
        return "<main></main>\n"
    shown = sorted(previews, key=lambda one: (one.index, one.step))
    articles = "".join(_article(index, list(group)) for index, group in groupby(shown, key=lambda one: one.index))
    return (
        f'<h2>Previews</h2>\n<p class="note">guided samples of the averaged weights, each from the same noise through '
        f'time</p>\n<main class="previews">{articles}</main>\n'
    )


def _article(index: int, previews: Sequence[Preview]) -> str:
    prompt = f'<p class="prompt">{escape(previews[-1].prompt)}</p>' if previews[-1].prompt else ""
    cells = "".join(f"<figure><figcaption>step {one.step}</figcaption>{one.html}</figure>" for one in previews)
    return f'<article><h3>Noise {index}</h3>{prompt}<div class="through">{cells}</div></article>'


def evenly(items: Sequence[T], most: int) -> list[T]:
    """Return at most so many of the items, evenly spread, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(k * (len(items) - 1) / (most - 1))] for k in range(most)]
