"""What every protocol hands back, and how it is shown: numbers as JSON, a table for people."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from mmdisco_cli.measures.scoring import ScoredClip

METRICS_FILE = "metrics.json"


@dataclass(frozen=True)
class Report:
    """Hold n samples a row, metrics by name, how they were measured, the table's lines and further files written.

    `clips` are those that report.html shows.
    """

    n: int
    metrics: Mapping[str, Any]
    protocol: Mapping[str, Any]
    table: Sequence[str]
    files: Sequence[Path] = ()
    clips: Sequence["ScoredClip"] = ()


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
