"""The tables of report.html: every figure of every protocol, by row of samples, by class, or by itself."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from mmdisco_cli.evaluation.report_cards import ROWS
from mmdisco_cli.measures.distances import source_of
from mmdisco_cli.measures.health import FLAGS
from mmdisco_cli.measures.names import better
from mmdisco_cli.page.charts import figure_html, way_html
from mmdisco_cli.page.naming import heading, spelt

FEW = dict.fromkeys(("unusable", *FLAGS, "largest_gap"), "lower")
"""Columns of the table of health, of which none are wanted."""
COMPARING = {"difference": "difference", "gap_closed": "gap closed", "ratio": "ratio"}
"""What compares rows, and is none of them."""
BESIDE = (*COMPARING, "shuffled")
GIVEN = "given_"
"""What names begin with of figures of samples beside a modality that was given; they are by measure, not by row."""
HEALTH = "health"
DIGITS = 16
"""Of a hash; the whole of it stands in metrics.json."""
Figures = Mapping[str, Any]


def rows_of(name: str, figures: Any) -> dict[str, Any]:
    """Return the figures of a metric by row of samples; empty for one that has no rows."""
    if not isinstance(figures, Mapping) or name.startswith(GIVEN) or "value" in figures:
        return {}
    found = {row: one for row, one in figures.items() if row not in BESIDE and _has_value(one)}
    return {row: found[row] for row in sorted(found, key=_place)}


def _place(row: str) -> int:
    """Return where a row stands among others; one of a protocol's own comes last."""
    return ROWS.index(row) if row in ROWS else len(ROWS)


def tables_html(metrics: Figures) -> str:
    """Return every figure: those by row of samples, those by class or variant, and those that stand by themselves."""
    found = (_by_row_html(metrics), *_nested_html(metrics), _single_html(metrics))
    return f"<h2>All figures</h2>\n{''.join(found)}" if any(found) else ""


def health_html(metrics: Figures, protocol: Mapping[str, Any]) -> str:
    """Return what is odd about the clips as files, and every one that could not be used, with its reason."""
    rows = metrics.get(HEALTH) or {}
    if not rows:
        return ""
    columns = ("n", "unusable", *FLAGS, "largest_gap")
    head = "".join(f'<th scope="col">{_title(name)}{way_html(FEW.get(name, ""))}</th>' for name in columns)
    body = "".join(
        f'<tr><th scope="row">{escape(row)}</th>{"".join(f"<td>{found[name]}</td>" for name in columns)}</tr>'
        for row, found in rows.items()
    )
    bad = "".join(f"<li>{escape(one['path'])}: {escape(one['reason'])}</li>" for one in protocol.get("unusable", ()))
    listed = f"<details open><summary>Left out</summary><ul>{bad}</ul></details>" if bad else ""
    return f"<h2>Health of the clips</h2>\n{_table('Clips with each flag by row', head, body)}{listed}\n"


def _by_row_html(metrics: Figures) -> str:
    """Return the figures by row of samples, with the sizes without which a distance says nothing."""
    named = {name: rows for name, figures in metrics.items() if (rows := rows_of(name, figures))}
    if not named:
        return ""
    columns = sorted(dict.fromkeys(row for rows in named.values() for row in rows), key=_place)
    compared = [key for key in COMPARING if any(_has_value(metrics[name].get(key)) for name in named)]
    head = _heads([*columns, *(COMPARING[key] for key in compared)])
    body = "".join(
        f'<tr><th scope="row">{_title(name)}{way_html(better(name))}{_source(name, metrics[name])}</th>'
        f"{_cells([*(rows.get(row) for row in columns), *(metrics[name].get(key) for key in compared)])}</tr>"
        for name, rows in named.items()
    )
    note = '<p class="note">Difference: guided less independent samples of the same noise.</p>'
    return (note if "difference" in compared else "") + _table("Every figure by row of samples", head, body) + "\n"


def _nested_html(metrics: Figures) -> Iterator[str]:
    """Yield a table for each metric that has several figures in each of several rows; those of given ones are one."""
    given = {name: found for name, found in metrics.items() if name.startswith(GIVEN)}
    nested = {"samples beside a given modality": given} if given else {}
    nested |= {
        name: found for name, found in metrics.items() if name not in (HEALTH, *given) and not rows_of(name, found)
    }
    for name, found in nested.items():
        if lines := list(_lines(found)):
            columns = list(dict.fromkeys(key for _, figures in lines for key in figures))
            head = "".join(f'<th scope="col">{_title(key)}{way_html(better(key))}</th>' for key in columns)
            body = "".join(
                f'<tr><th scope="row">{escape(", ".join(map(spelt, path)))}</th>'
                f"{_cells([figures.get(key) for key in columns])}</tr>"
                for path, figures in lines
            )
            title = heading(name)
            yield f"<h3>{escape(title)}</h3>\n{_table(title, head, body)}\n"


def _lines(found: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Figures]]:
    """Yield the mappings below the first one that hold figures, each with the keys that lead to it."""
    for key, below in found.items() if isinstance(found, Mapping) and "value" not in found else ():
        if isinstance(below, Mapping) and "value" not in below:
            if any(map(_is_figure, below.values())):
                yield (*path, key), below
            else:
                yield from _lines(below, (*path, key))


def _single_html(metrics: Figures) -> str:
    """Return the figures that stand by themselves: of the discriminator, of its size, of what sampling takes."""
    found = [line for name, figures in metrics.items() for line in _singles(name, figures)]
    body = "".join(
        f'<tr><th scope="row">{escape(title)}{way_html(way)}</th><td>{figure_html(figure)}</td></tr>'
        for title, way, figure in found
    )
    table = _table("Figures that stand by themselves", '<th scope="col">figure</th>', body)
    return f"<h3>Figures that stand by themselves</h3>\n{table}\n" if found else ""


def _singles(name: str, figures: Any) -> Iterator[tuple[str, str, Figures | None]]:
    if _is_figure(figures):
        yield spelt(name), better(name), _as_figure(figures)
    if not isinstance(figures, Mapping) or name.startswith(GIVEN) or rows_of(name, figures):
        return
    if "value" in figures and _has_value(figures.get("shuffled")):
        yield f"{spelt(name)}, shuffled pairs", "", figures["shuffled"]
    for key, one in figures.items() if "value" not in figures else ():
        if isinstance(one, int | float):
            yield f"{spelt(name)}, {spelt(key)}", "", {"value": one}


def _cells(found: Sequence[Any]) -> str:
    return "".join(f"<td>{_sized(_as_figure(one))}</td>" for one in found)


def _heads(names: Sequence[str]) -> str:
    return "".join(f'<th scope="col">{escape(spelt(name))}</th>' for name in names)


def _sized(figure: Figures | None) -> str:
    shown = figure_html(figure)
    if not figure or "dimension" not in figure:
        return shown
    return f"{shown}<br><small>n {figure['n']}, reference {figure['n_reference']}, D {figure['dimension']}</small>"


def _as_figure(one: Any) -> Figures | None:
    """Return a figure as a mapping, also where it is a number alone."""
    return {"value": one} if isinstance(one, int | float) else one if _is_figure(one) else None


def _is_figure(one: Any) -> bool:
    return isinstance(one, int | float) or (isinstance(one, Mapping) and "value" in one)


def _has_value(one: Any) -> bool:
    return isinstance(one, Mapping) and "value" in one


def _source(name: str, figures: Figures) -> str:
    """Return the network and the weights that a figure comes from."""
    source = source_of(name, figures, DIGITS)
    return f'<br><small class="source">{escape(source)}</small>' if source else ""


def _table(caption: str, head: str, body: str) -> str:
    # Focusable, so that it scrolls by keys too.
    frame = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
    return f"{frame}<table><thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def _title(name: str) -> str:
    return escape(spelt(name))
