"""A report's figures as cells of a table, one column a row of films."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdisco_cli.data.media import replacing
from mmdisco_cli.evaluation.report import align

NONE = "-"


def tabulate(
    metrics: Mapping[str, Any], names: Sequence[str], columns: Sequence[str], compared: Sequence[str] = ()
) -> list[str]:
    """Return lines with the given metrics below one another and a column for each row of films.

    A last column has what compares the rows, under whichever of the names `compared` a metric has it.
    """
    shown = [name for name in names if any(column in metrics.get(name, {}) for column in columns)]
    last = [" or ".join(compared)] if compared else []
    rows = [[column.replace("_", " ") for column in ("", *columns, *last)]]
    for name in shown:
        found = [metrics[name].get(column) for column in columns]
        found += [next((metrics[name][key] for key in compared if key in metrics[name]), None)] if compared else []
        rows.append([name.replace("_", " "), *map(cell, found)])
    return align(rows) if shown else []


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write objects as JSON, one a line, whole or not at all."""
    with replacing(path) as part:
        part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def cell(figure: Any) -> str:
    """Return a figure with its interval in brackets, or with its standard error."""
    if figure is None:
        return NONE
    if not isinstance(figure, Mapping):
        return f"{figure:.3g}"
    value = _short(figure["value"])
    if figure.get("low") is not None:
        return f"{value} [{_short(figure['low'])}, {_short(figure['high'])}]"
    return value if figure.get("error") is None else f"{value} ± {_short(figure['error'])}"


def _short(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"
