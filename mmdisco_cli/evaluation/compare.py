"""Two evaluated runs beside each other, clip by clip: the honest way to say that one of them is better."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdisco_cli.commands.options import EvalOptions
from mmdisco_cli.errors import DataError
from mmdisco_cli.evaluation.bootstrap import estimate, mean_of
from mmdisco_cli.evaluation.report import Report, align
from mmdisco_cli.evaluation.tabulate import cell

METRICS: tuple[str, ...] = ()
REAL = ("real", "reference")
LEADING = ("event_iou", "av_align_gain", "av_align")
"""Of these the first that both runs have decides."""
LABELS = ("row", "path", "sha256", "flags", "seconds")
Values = Mapping[str, float | None]


def compare_runs(a: Path, b: Path, options: EvalOptions) -> Report:
    """Return the means of every column that the clips of both runs have, and of b - a with a paired interval.

    A run is a folder that `mmdisco eval` wrote; its samples are compared, not the real clips beside them. Clips pair up
    by their row and file name, or where these differ by file name alone, as `samples` of one run and of the other do.

    Raises:
        DataError: no such run, or no clip in common.
    """
    first, second = read_clips(a), read_clips(b)
    pairs = _pairs(first, second)
    if not pairs:
        raise DataError(f"{a} and {b} have no clips of the same names: runs compare by the samples of the same noise")
    names = [name for name in first[pairs[0][0]] if name in second[pairs[0][1]]]
    metrics = {name: figures([(first[i][name], second[j][name]) for i, j in pairs], options.seed) for name in names}
    metrics = {name: found for name, found in metrics.items() if found["n"]}
    rows = [["", a.name or str(a), b.name or str(b), "difference", "clips"]]
    for name, found in metrics.items():
        figure = [cell(found[key]) for key in ("a", "b", "difference")]
        rows.append([name.replace("_", " "), *figure, str(found["n"])])
    protocol = {
        "a": str(a),
        "b": str(b),
        "pairs": len(pairs),
        "unpaired": {"a": len(first) - len(pairs), "b": len(second) - len(pairs)},
        "interval": "95 %, bootstrap by pair of clips",
        "seed": options.seed,
    }
    leading = next((name for name in LEADING if name in metrics), None)
    verdict = [_verdict(leading, metrics[leading])] if leading else []
    return Report(len(pairs), metrics, protocol, [*align(rows), "", *verdict])


def figures(pairs: Sequence[tuple[float | None, float | None]], seed: int) -> dict[str, Any]:
    """Return the mean of either side and of the difference, second less first, over pairs that have both."""
    both = [(x, y) for x, y in pairs if x is not None and y is not None]
    if not both:
        return {"a": None, "b": None, "difference": None, "n": 0}
    sides = {"a": [x for x, _ in both], "b": [y for _, y in both], "difference": [y - x for x, y in both]}
    return {key: estimate(mean_of(values), seed).as_json() for key, values in sides.items()} | {"n": len(both)}


def read_clips(run: Path) -> dict[tuple[str, str], Values]:
    """Return the columns of numbers of a run's samples by (row, file name); raise DataError where there are none."""
    path = run / "clips.csv"
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}: `mmdisco eval --out {run}` writes it") from error
    return {(row["row"], Path(row["path"]).name): _numbers(row) for row in rows if row["row"] not in REAL}


def _pairs(first: Mapping[tuple[str, str], Values], second: Mapping[tuple[str, str], Values]) -> list[tuple[Any, Any]]:
    same = [(key, key) for key in sorted(first) if key in second]
    if same:
        return same
    # A run of one row against a run of another, such as guided against independent: the names are those of the noise.
    by_name = {name: key for key in second for name in [key[1]]}
    return [(key, by_name[key[1]]) for key in sorted(first) if key[1] in by_name]


def _numbers(row: Mapping[str, str]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name, text in row.items():
        if name not in LABELS:
            try:
                found[name] = float(text) if text else None
            except ValueError:
                continue
    return found


def _verdict(name: str, found: Mapping[str, Any]) -> str:
    low, high = found["difference"]["low"], found["difference"]["high"]
    shown = f"{name.replace('_', ' ')} {cell(found['difference'])} over {found['n']} pairs"
    if low is None or low <= 0 <= high:
        return f"no difference can be told: {shown}"
    return f"the {'second' if low > 0 else 'first'} run is better: {shown}"
