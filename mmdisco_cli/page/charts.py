"""The plots of a page, in HTML and SVG that takes its colours from the page and so is at home in the dark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from statistics import median
from typing import Any

from mmdisco_cli.measures.names import ARROWS

WIDTH, HEIGHT = 560, 190
MARGIN = 34
GUTTER = 110
"""Left of the dots, for the names of their rows."""
MOST_DOTS = 400
NONE = "-"


@dataclass(frozen=True)
class Place:
    """A point of a curve, with the interval of its height where there is one."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


def interval_panel(
    title: str, note: str, figures: Mapping[str, Mapping[str, Any]], chance: Mapping[str, Any], way: str = ""
) -> str:
    """Return a line a row with its value and its interval, or two standard errors, on one scale that includes 0.

    `chance` is, by row, what mismatched pairs reach, drawn as a stroke and written beside; `way` is which way is good,
    such as "higher". Empty without any value.
    """
    known = {row: figure for row, figure in figures.items() if figure and figure.get("value") is not None}
    if not known:
        return ""
    reach = {row: _reach(figure) for row, figure in known.items()}
    others = [figure["value"] for figure in chance.values() if figure and figure.get("value") is not None]
    low = min([0.0, *others, *(bounds[0] for bounds in reach.values())])
    high = max([0.0, *others, *(bounds[1] for bounds in reach.values())])
    span = (high - low) or 1.0

    def place(value: float) -> str:
        return f"{100 * (value - low) / span:.2f}%"

    lines = []
    zero = f'<i class="zero" style="left:{place(0.0)}"></i>' if low < 0 else ""
    for row, figure in known.items():
        below, above = reach[row]
        stroke = (chance.get(row) or {}).get("value")
        marks = f'<i class="chance" style="left:{place(stroke)}"></i>' if stroke is not None else ""
        width = f"{100 * (above - below) / span:.2f}%"
        lines.append(
            f'<div class="line row-{escape(row)}"><span class="who">{escape(row)}</span>'
            f'<span class="track" aria-hidden="true">'
            f'{zero}<i class="reach" style="left:{place(below)};width:{width}"></i>{marks}'
            f'<i class="dot" style="left:{place(figure["value"])}"></i></span>'
            f'<span class="figure">{figure_html(figure)}{_chance_html(stroke)}</span></div>'
        )
    scale = f'<div class="scale" aria-hidden="true"><span><b>{short(low)}</b><b>{short(high)}</b></span></div>'
    described = f"<p>{escape(note)}</p>" if note else ""
    head = f"<h3>{escape(title)}{way_html(way)}</h3>"
    return f'<section class="panel">{head}{described}{"".join(lines)}{scale}</section>'


def way_html(way: str) -> str:
    """Return which direction of a figure is better, as an arrow and as text for screen readers; empty where none is."""
    if not way:
        return ""
    arrow = ARROWS[way]
    return (
        f' <span class="way"><span aria-hidden="true">{arrow}</span><span class="said">, {way} is better</span></span>'
    )


def _chance_html(value: float | None) -> str:
    return "" if value is None else f'<small class="chance-level">chance {short(value)}</small>'


def dots_panel(title: str, values: Mapping[str, Sequence[float]], way: str = "") -> str:
    """Return every clip's value as a dot, a band a row, on a scale that includes 0; of more than 400 an even choice."""
    known = {row: found for row, found in values.items() if found}
    if not known:
        return ""
    everything = [value for found in known.values() for value in found]
    low, high = min(0.0, *everything), max(0.0, *everything)
    span, band, left, right = (high - low) or 1.0, 40, GUTTER, WIDTH - 12
    bottom = 8 + band * len(known)
    origin = f"{left - (right - left) * low / span:.1f}"
    parts = [f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>']
    parts += [f'<line class="axis" x1="{origin}" x2="{origin}" y1="4" y2="{bottom}"/>'] if low < 0 else []
    for place, (row, found) in enumerate(known.items()):
        step = max(1, -(-len(found) // MOST_DOTS))
        middle = 4 + band * (place + 0.5)
        dots = "".join(
            f'<circle cx="{left + (right - left) * (value - low) / span:.1f}" '
            f'cy="{middle + ((k * 7919 % 100) / 100 - 0.5) * (band - 16):.1f}" r="3.2"/>'
            for k, value in enumerate(found[::step])
        )
        parts.append(
            f'<g class="dots row-{escape(row)}"><text class="who" x="0" y="{middle + 4:.0f}">{escape(row)}</text>'
        )
        parts.append(f"{dots}</g>")
    parts.append(f'<text x="{left}" y="{bottom + 16}">{short(low)}</text>')
    parts.append(f'<text x="{right}" y="{bottom + 16}" text-anchor="end">{short(high)}</text>')
    said = "; ".join(f"{row}: {len(found)}, median {short(median(found))}" for row, found in known.items())
    label = f'role="img" aria-label="{escape(f"{title}. {said}")}"'
    drawn = f'<svg viewBox="0 0 {WIDTH} {bottom + 20}" {label}>{"".join(parts)}</svg>'
    return f'<section class="panel"><h3>{escape(title)}{way_html(way)}</h3>{drawn}</section>'


def curve_panel(
    title: str, note: str, points: Sequence[Place], half: float | None = None, way: str = "", *, x: str = ""
) -> str:
    """Return a curve with a band of its intervals, whose scale includes 0 and 1, with a dashed line at `half`.

    `note` is HTML, `x` names the horizontal axis. Empty below two points.
    """
    if len(points) < 2:
        return ""
    points = sorted(points, key=lambda one: one.x)
    first, last = points[0], points[-1]
    reach = [(one, one.low, one.high) for one in points if one.low is not None and one.high is not None]
    low = min([0.0, *(one.y for one in points), *(below for _, below, _ in reach)])
    high = max([1.0, *(one.y for one in points), *(above for _, _, above in reach)])
    right, bottom = WIDTH - 10, HEIGHT - 34

    def at(x: float, y: float) -> tuple[float, float]:
        across = MARGIN + (right - MARGIN) * (x - first.x) / ((last.x - first.x) or 1.0)
        return across, bottom - (bottom - 10) * (y - low) / ((high - low) or 1.0)

    def line(places: Sequence[tuple[float, float]]) -> str:
        return "L".join("{:.1f} {:.1f}".format(*at(x, y)) for x, y in places)

    around = [(one.x, above) for one, _, above in reach] + [(one.x, below) for one, below, _ in reversed(reach)]
    drawn = f'<path class="reach" d="M{line(around)}Z"/>' if around else ""
    drawn += f'<path class="axis" d="M{MARGIN} 10V{bottom}H{right}"/>'
    if half is not None:
        level = at(first.x, half)[1]
        drawn += f'<line class="half" x1="{MARGIN}" x2="{right}" y1="{level:.1f}" y2="{level:.1f}"/>'
    drawn += f'<path class="curve" d="M{line([(one.x, one.y) for one in points])}"/>'
    drawn += "".join(
        f'<text x="{a:.0f}" y="{b:.0f}" text-anchor="{anchor}">{escape(text)}</text>'
        for a, b, anchor, text in (
            (MARGIN - 6, bottom, "end", short(low)),
            (MARGIN - 6, 18, "end", short(high)),
            (MARGIN, HEIGHT - 12, "start", short(first.x)),
            ((MARGIN + right) / 2, HEIGHT - 12, "middle", x),
            (right, HEIGHT - 12, "end", short(last.x)),
        )
    )
    said = f"{title}: from {short(first.y)} at {short(first.x)} to {short(last.y)} at {short(last.x)}"
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(said)}">{drawn}</svg>'
    return f'<section class="panel"><h3>{escape(title)}{way_html(way)}</h3><p>{note}</p>{svg}</section>'


def figure_html(figure: Mapping[str, Any] | None) -> str:
    """Return a value with its interval, or with its standard error."""
    if not figure or figure.get("value") is None:
        return NONE
    value = short(figure["value"])
    if figure.get("low") is not None:
        return f"{value} <small>[{short(figure['low'])}, {short(figure['high'])}]</small>"
    return value if figure.get("error") is None else f"{value} <small>± {short(figure['error'])}</small>"


def short(value: float) -> str:
    """Return a number of a plot; a count has all its digits."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3g}" if abs(value) >= 100 else f"{value:.3f}".rstrip("0").rstrip(".") if value else "0"


def _reach(figure: Mapping[str, Any]) -> tuple[float, float]:
    value = float(figure["value"])
    if figure.get("low") is not None:
        return float(figure["low"]), float(figure["high"])
    error = 2 * float(figure.get("error") or 0.0)
    return value - error, value + error
