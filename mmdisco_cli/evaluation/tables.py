"""A report's figures as lines of a table, one column a row of clips, and the files that list clips one by one."""

import csv
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.measures.names import direction
from mmdisco_cli.run.files import ESCAPED, replacing, write_text

NONE = "-"


def tabulate(
    metrics: Mapping[str, Any], names: Sequence[str], columns: Sequence[str], compared: Sequence[str] = ()
) -> list[str]:
    """Return lines with the given metrics below one another and a column for each row of clips.

    After these comes what compares the rows, under whichever of the names `compared` a metric has it, and at the end
    which way of each is good.
    """
    shown = [name for name in names if any(_has_figure(metrics.get(name, {}).get(column)) for column in columns)]
    last = [" or ".join(compared)] if compared else []
    rows = [[column.replace("_", " ") for column in ("", *columns, *last, "better")]]
    for name in shown:
        found = [metrics[name].get(column) for column in columns]
        found += [next((metrics[name][key] for key in compared if key in metrics[name]), None)] if compared else []
        rows.append([name.replace("_", " "), *map(cell, found), direction(name) or NONE])
    return align(rows) if shown else []


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write objects as JSON, one a line, whole or not at all."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Write one line a clip, as .csv or, with the package pyarrow, as .parquet, whole or not at all.

    What an earlier run left there in the other format goes: it would be taken for this one's.
    """
    write = _write_parquet if path.suffix == ".parquet" else _write_csv
    write(path, [{name: _as_text(value) for name, value in row.items()} for row in rows])
    for other in ("csv", "parquet"):
        if path.suffix != f".{other}":
            path.with_suffix(f".{other}").unlink(missing_ok=True)
    return path


def _write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, names)
        writer.writeheader()
        writer.writerows(rows)


def _write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    table, parquet = import_module("pyarrow").Table, import_module("pyarrow.parquet")
    with replacing(path) as part:
        parquet.write_table(table.from_pylist(rows), part)


def _as_text(value: Any) -> Any:
    r"""Return a value with those bytes of a file name escaped that are not UTF-8, as in caf\udce9.mp4."""
    return value.encode(errors=ESCAPED).decode() if isinstance(value, str) else value


def read_parquet(path: Path) -> list[Mapping[str, Any]]:
    """Return the lines of a .parquet; raise UsageError without pyarrow, DataError where it cannot be read."""
    if find_spec("pyarrow") is None:
        raise UsageError(f"{path}: reading it needs pyarrow: pip install pyarrow")
    try:
        rows: list[Mapping[str, Any]] = import_module("pyarrow.parquet").read_table(path).to_pylist()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as Parquet") from error
    return rows


def _has_figure(figure: Any) -> bool:
    """Return whether there is a figure for a cell, and not a count of several things."""
    return figure is not None and (not isinstance(figure, Mapping) or "value" in figure)


def cell(figure: Any) -> str:
    """Return a figure with its interval in brackets, or with its standard error."""
    if not _has_figure(figure):
        return NONE
    if not isinstance(figure, Mapping):
        return f"{figure:.3g}"
    value = _short(figure["value"])
    if figure.get("low") is not None:
        return f"{value} [{_short(figure['low'])}, {_short(figure['high'])}]"
    return value if figure.get("error") is None else f"{value} ± {_short(figure['error'])}"


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of cells, the first the headings, as the lines of a table; in colour where stderr is a terminal."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for k, heading in enumerate(rows[0]):
        table.add_column(Text(heading), justify="right" if k else "left", no_wrap=True, style="" if k else "bold")
    for row in rows[1:]:
        table.add_row(*map(Text, row))
    # As wide as it has to be: rich would cut it at 80 columns wherever there is no terminal.
    console = Console(file=StringIO(), width=10_000, force_terminal=sys.stderr.isatty(), highlight=False)
    with console.capture() as drawn:
        console.print(table)
    return [line.rstrip() for line in drawn.get().splitlines()]


def number(value: float, digits: int = 4) -> str:
    """Return a figure for a table, a dash where there is none."""
    return f"{value:.{digits}f}" if value == value else "-"


def _short(value: float | None) -> str:
    # What rounds to 0 has no sign.
    return NONE if value is None else f"{round(value, 3) or 0.0:.3f}" if abs(value) < 1000 else f"{value:.3g}"
