"""Two evaluated runs beside each other, clip by clip: the honest way to say that one of them is better."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdisco_cli.commands.options import EvalOptions
from mmdisco_cli.errors import DataError
from mmdisco_cli.evaluation.bootstrap import estimate, mean_of
from mmdisco_cli.evaluation.report import Report, align
from mmdisco_cli.evaluation.tabulate import cell, read_parquet

METRICS: tuple[str, ...] = ()
ROWS = ("guided", "samples", "independent")
"""Of these the first that a run has is what it is compared by."""
LEADING = ("event_iou", "av_align_gain", "av_align")
"""Of these the first that both runs have decides."""
LABELS = ("row", "path", "sha256", "flags", "seconds")
Values = Mapping[str, float | None]


def compare_runs(a: Path, b: Path, options: EvalOptions) -> Report:
    """Return the means of every column that the clips of both runs have, and of b - a with a paired interval.

    A run is a folder that `mmdisco eval` wrote; its guided samples are compared, or whatever samples it has, not the
    real clips beside them. Clips pair up by file name, which tells the noise.

    Raises:
        DataError: no such run, or no clip in common.
    """
    first, second = read_clips(a), read_clips(b)
    pairs = [name for name in sorted(first) if name in second]
    if not pairs:
        raise DataError(f"{a} and {b} have no clips of the same names: runs compare by the samples of the same noise")
    names = [name for name in first[pairs[0]] if name in second[pairs[0]]]
    metrics = {
        name: figures([(first[clip][name], second[clip][name]) for clip in pairs], options.seed) for name in names
    }
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


def read_clips(run: Path) -> dict[str, Values]:
    """Return the columns of numbers of a run's samples by file name; raise DataError where nothing was written."""
    rows = _rows(run)
    chosen = next((name for name in ROWS if any(row["row"] == name for row in rows)), None)
    return {Path(row["path"]).name: _numbers(row) for row in rows if row["row"] == chosen}


def _rows(run: Path) -> list[Mapping[str, Any]]:
    path = run / "clips.csv"
    packed = path.with_suffix(".parquet")
    if packed.is_file() and not path.is_file():
        return read_parquet(packed)
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}: `mmdisco eval --out {run}` writes it") from error


def _numbers(row: Mapping[str, Any]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name, text in row.items():
        if name not in LABELS:
            try:
                found[name] = None if text in (None, "") else float(text)
            except ValueError:
                continue
    return found


def _verdict(name: str, found: Mapping[str, Any]) -> str:
    low, high = found["difference"]["low"], found["difference"]["high"]
    shown = f"{name.replace('_', ' ')} {cell(found['difference'])} over {found['n']} pairs"
    if low is None or low <= 0 <= high:
        return f"no difference can be told: {shown}"
    return f"the {'second' if low > 0 else 'first'} run is better: {shown}"
