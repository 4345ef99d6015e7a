"""Several curves in one panel of a page, as SVG: linear, or logarithmic where values differ by orders of magnitude."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise

WIDTH, HEIGHT = 420, 190
LEFT, RIGHT, TOP, BOTTOM = 56, 10, 10, 24
MOST_PARTS = 300
DECADES = 1.5
"""Powers of ten between the smallest and the largest value from which on the axis is logarithmic."""
SIDE_BY_SIDE = 60
"""Points from which on a curve has no dots any more."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """A curve through (x, y) with its name; `look` is its class in the style, `strength` its opacity.

    `last` says that its last value is of interest by itself.
    """

    name: str
    points: Sequence[Point]
    look: str
    strength: float = 1.0
    last: bool = True


@dataclass(frozen=True)
class Level:
    """A dashed line at a value that means something, such as chance."""

    name: str
    value: float


def curves_panel(title: str, note: str, curves: Sequence[Curve], level: Level | None = None, *, x: str = "step") -> str:
    """Return a panel of curves with a legend, whose axes are labelled at both ends; empty without any finite one.

    `x` names the horizontal axis. Where all values are positive and differ by orders of magnitude, the vertical axis
    is logarithmic and says so.
    """
    finite = [replace(curve, points=[p for p in curve.points if all(map(math.isfinite, p))]) for curve in curves]
    shown = [replace(curve, points=thinned(curve.points)) for curve in finite if curve.points]
    if not shown:
        return ""
    axes = _Axes.of([point for curve in shown for point in curve.points], level)
    words = [note] if note else []
    words += [axes.remark] if axes.remark else []
    described = f"<p>{escape('; '.join(words))}</p>" if words else ""
    drawn = "".join(_drawn(curve, axes) for curve in shown)
    dashed = _level(level, axes) if level else ""
    said = ", ".join(
        f"{curve.name} {spelt_number(curve.points[-1][1])} at {x} {spelt_number(curve.points[-1][0])}"
        for curve in shown
    )
    return (
        f'<section class="panel"><h3>{escape(title)}</h3>{described}'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(f"{title}: {said}")}">'
        f"{_frame(axes, x)}{dashed}{drawn}</svg>{_legend(shown, level)}</section>"
    )


def thinned(points: Sequence[Point]) -> list[Point]:
    """Return at most 600 points: all, or the lowest and the highest of 300 equal parts, so that jumps are seen."""
    if len(points) <= 2 * MOST_PARTS:
        return list(points)
    bounds = [k * len(points) // MOST_PARTS for k in range(MOST_PARTS + 1)]
    parts = [points[a:b] for a, b in pairwise(bounds)]
    extremes = (sorted({min(part, key=_height), max(part, key=_height)}) for part in parts)
    return [point for part in extremes for point in part]


def _height(point: Point) -> float:
    return point[1]


@dataclass(frozen=True)
class _Axes:
    left: float
    right: float
    low: float
    high: float
    logarithmic: bool

    @classmethod
    def of(cls, points: Sequence[Point], level: Level | None) -> "_Axes":
        xs = [x for x, _ in points]
        ys = [y for _, y in points] + ([level.value] if level else [])
        low, high = min(ys), max(ys)
        logarithmic = low > 0 and math.log10(high / low) > DECADES
        return cls(min(xs), max(xs), low, high, logarithmic)

    @property
    def remark(self) -> str:
        """Say what a reader would not expect of the vertical axis."""
        if self.logarithmic:
            return "logarithmic axis"
        return "" if self.low <= 0 <= self.high else "the axis does not begin at 0"

    def at(self, x: float, y: float) -> Point:
        scale: Callable[[float], float] = math.log if self.logarithmic else float
        low, high = scale(self.low), scale(self.high)
        across = LEFT + (WIDTH - RIGHT - LEFT) * (x - self.left) / ((self.right - self.left) or 1.0)
        share = (scale(y) - low) / (high - low) if high > low else 0.5
        return across, HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * share


def _drawn(curve: Curve, axes: _Axes) -> str:
    places = [axes.at(x, y) for x, y in curve.points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dots = ""
    if len(places) == 1 or (curve.look == "heldout" and len(places) < SIDE_BY_SIDE):
        dots = "".join(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.6"><title>{_place(px)}: {spelt_number(py)}</title></circle>'
            for (x, y), (px, py) in zip(places, curve.points, strict=True)
        )
    return f'<g class="c-{escape(curve.look)}" opacity="{curve.strength:.2f}"><path d="M{path}"/>{dots}</g>'


def _frame(axes: _Axes, x: str) -> str:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    texts = (
        (LEFT - 6, bottom, "end", spelt_number(axes.low)),
        (LEFT - 6, TOP + 8, "end", spelt_number(axes.high)),
        (LEFT, HEIGHT - 7, "start", _place(axes.left)),
        ((LEFT + right) / 2, HEIGHT - 7, "middle", x),
        (right, HEIGHT - 7, "end", _place(axes.right)),
    )
    lines = f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>'
    labels = (f'<text x="{a:.0f}" y="{b}" text-anchor="{way}">{escape(text)}</text>' for a, b, way, text in texts)
    return lines + "".join(labels)


def _level(level: Level, axes: _Axes) -> str:
    y = axes.at(axes.left, level.value)[1]
    return f'<path class="half" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>'


def _legend(curves: Sequence[Curve], level: Level | None) -> str:
    entries = [
        f'<li class="c-{escape(curve.look)}"><i style="opacity:{curve.strength:.2f}"></i>{escape(curve.name)}'
        f"{f' <b>{spelt_number(curve.points[-1][1])}</b>' if curve.last else ''}</li>"
        for curve in curves
    ]
    entries += (
        [f'<li class="c-level"><i></i>{escape(level.name)} <b>{spelt_number(level.value)}</b></li>'] if level else []
    )
    return f'<ul class="legend">{"".join(entries)}</ul>'


def spelt_number(value: float) -> str:
    """Return a number with three digits that count, in plain notation unless it is very large or very small."""
    if value == 0:
        return "0"
    if 1e-3 <= abs(value) < 1e5:
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}" if abs(value) < 1 else f"{value:.4g}"
    return f"{value:.2g}"


def _place(x: float) -> str:
    """Return a step with all its digits, or another value of the horizontal axis."""
    return f"{x:.0f}" if x == int(x) else spelt_number(x)
