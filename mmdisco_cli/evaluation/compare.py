"""Paired comparison of two evaluated runs, clip by clip."""

import csv
import json
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.evaluation.protocol import METRICS_FILE, Report
from mmdisco_cli.evaluation.tables import NONE, align, cell, read_parquet
from mmdisco_cli.measures.bootstrap import INTERVAL, LEAST, estimate, mean_of
from mmdisco_cli.measures.names import direction
from mmdisco_cli.run import console
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.run.options import EvalOptions

METRICS: tuple[str, ...] = ()
ROWS = ("guided", "samples", "independent")
"""Of these the first that a run has is what it is compared by."""
LEADING = ("event_iou", "av_align_gain", "av_align")
"""Of these the first that both runs have decides."""
LABELS = ("row", "path", "name", "sha256", "flags", "seconds")
HOW = ("rule", "shorter_side", "fps", "flow")
"""Of what a run says of AV-Align, that on which the values of its clips depend."""
NETWORK = ("extractor", "preset", "numerics")
Values = Mapping[str, float | None]


def evaluate(options: EvalOptions, ranks: Ranks) -> Report | None:
    """Compare the two runs of --compare on the first rank: see `compare_runs`."""
    return compare_runs(*options.compare, options) if options.compare and ranks.first else None


def compare_runs(a: Path, b: Path, options: EvalOptions) -> Report:
    """Return the means of every column that the clips of both runs have, and of b - a with a paired interval.

    A run is a folder that `mmdisco eval` wrote; its guided samples are compared, or whatever samples it has, not the
    real clips beside them. Clips pair up by their paths below the folder that was evaluated, which name the noise.

    Raises:
        DataError: no such run, or no clip in common.
        UsageError: the two were not measured in the same way.
    """
    first, second = read_clips(a), read_clips(b)
    pairs = [name for name in sorted(first) if name in second]
    if not pairs:
        raise DataError(f"{a} and {b} have no clips of the same names: runs compare by the samples of the same noise")
    if alone := len(first) + len(second) - 2 * len(pairs):
        console.warn(f"{alone} clips of {a} or {b} have none of their name in the other: left out")
    require_alike(a, b, next(iter(first.values())).keys() & next(iter(second.values())).keys())
    names = [name for name in first[pairs[0]] if name in second[pairs[0]]]
    metrics = {
        name: figures([(first[clip][name], second[clip][name]) for clip in pairs], options.seed) for name in names
    }
    metrics = {name: found for name, found in metrics.items() if found["n"]}
    rows = [["", a.name or str(a), b.name or str(b), "difference", "clips", "better"]]
    for name, found in metrics.items():
        figure = [cell(found[key]) for key in ("a", "b", "difference")]
        rows.append([name.replace("_", " "), *figure, str(found["n"]), direction(name) or NONE])
    protocol = {
        "a": str(a),
        "b": str(b),
        "pairs": len(pairs),
        "unpaired": {"a": len(first) - len(pairs), "b": len(second) - len(pairs)},
        "interval": f"{INTERVAL}; a pair of clips is drawn together",
        "seed": options.seed,
    }
    leading = next((name for name in LEADING if name in metrics), None)
    conclusion = [_conclusion(leading, metrics[leading])] if leading else []
    return Report(len(pairs), metrics, protocol, [*align(rows), "", *conclusion])


def figures(pairs: Sequence[tuple[float | None, float | None]], seed: int) -> dict[str, Any]:
    """Return the mean of either side and of the difference, second less first, over pairs that have both."""
    both = [(x, y) for x, y in pairs if x is not None and y is not None]
    if not both:
        return {"a": None, "b": None, "difference": None, "n": 0}
    sides = {"a": [x for x, _ in both], "b": [y for _, y in both], "difference": [y - x for x, y in both]}
    return {key: estimate(mean_of(values), seed).as_json() for key, values in sides.items()} | {"n": len(both)}


def count_of(pairs: int) -> str:
    """Return a number of pairs with its noun."""
    return f"{pairs} pair{'' if pairs == 1 else 's'}"


def read_clips(run: Path) -> dict[str, Values]:
    """Return the columns of numbers of a run's samples by name; raise DataError where nothing was written."""
    rows = _rows(run)
    if not all("row" in row and ("name" in row or "path" in row) for row in rows):
        raise DataError(f"{run}: its table of clips says neither row nor name: not what this version of mmdisco writes")
    chosen = next((name for name in ROWS if any(row["row"] == name for row in rows)), None)
    own = [row for row in rows if row["row"] == chosen]
    return {name: _numbers(row) for name, row in zip(_names(own), own, strict=True)}


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of a row's clips; where none were written, their paths below the folder that holds them all."""
    if all(row.get("name") for row in rows):
        return [str(row["name"]) for row in rows]
    paths = [Path(row["path"]) for row in rows]
    above = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(above).as_posix() for path in paths]


def require_alike(a: Path, b: Path, columns: Collection[str]) -> None:
    """Raise UsageError, naming each, for differences in how two runs were measured on which their columns depend.

    Other versions of libraries are warned of, and a run that does not say how it was measured.
    """
    one, other = _measured(a), _measured(b)
    if one is None or other is None:
        console.warn(f"{a if one is None else b}: no {METRICS_FILE}, so nothing says whether it was measured alike")
        return
    first, second = _fixed(one, columns), _fixed(other, columns)
    differing = [key for key in first if key in second and first[key] != second[key]]
    if differing:
        lines = [f"{key}: {first[key]} in {a}, {second[key]} in {b}" for key in differing]
        raise UsageError("\n".join([*lines, "the two runs do not compare: evaluate their clips alike"]))
    versions = [one["protocol"].get("versions") or {}, other["protocol"].get("versions") or {}]
    newer = [name for name in versions[0] if versions[1].get(name, versions[0][name]) != versions[0][name]]
    if newer:
        listed = ", ".join(f"{name} {versions[0][name]} and {versions[1][name]}" for name in newer)
        console.warn(f"{a} and {b} were measured by different versions: {listed}")


def _measured(run: Path) -> Mapping[str, Any] | None:
    """Return what a run says of itself, None where it says nothing; raise DataError where that is damaged."""
    path = run / METRICS_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(key), dict) for key in ("metrics", "protocol")):
        raise DataError(f"{path}: not what `mmdisco eval` writes")
    return content


def _fixed(content: Mapping[str, Any], columns: Collection[str]) -> dict[str, Any]:
    """Return by name what the values of a run's clips depend on beside the clips."""
    protocol, aligned = content["protocol"], content["protocol"].get("av_align") or {}
    found = {f"av_align {key}": aligned[key] for key in HOW if key in aligned}
    if "event_iou" in columns and "tolerance_seconds" in protocol:
        found["event_iou tolerance"] = protocol["tolerance_seconds"]
    for name in sorted(columns):
        about = (content["metrics"].get(name) or {}).get("protocol") or {}
        found |= {f"{name} {key}": about[key] for key in NETWORK if key in about}
        if about.get("weights"):
            weights = about["weights"]
            hashed = isinstance(weights, Mapping) and "sha256" in weights
            found[f"{name} weights"] = f"SHA-256 {weights['sha256']}" if hashed else str(weights)
    return found


def _rows(run: Path) -> list[Mapping[str, Any]]:
    path = run / "clips.csv"
    packed = path.with_suffix(".parquet")
    if packed.is_file() and not path.is_file():
        return read_parquet(packed)
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream))
    except OSError as error:
        if _measured(run):
            raise DataError(f"{run}: its protocol keeps no figures of single clips, which --compare pairs") from error
        raise DataError(f"{path}: {error.strerror}: --compare takes the folders that `mmdisco eval` writes") from error


def _numbers(row: Mapping[str, Any]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name, text in row.items():
        if name not in LABELS:
            try:
                found[name] = None if text in (None, "") else float(text)
            except ValueError:
                continue
    return found


def _conclusion(name: str, found: Mapping[str, Any]) -> str:
    low, high = found["difference"]["low"], found["difference"]["high"]
    shown = f"{name.replace('_', ' ')} {cell(found['difference'])} over {count_of(found['n'])}"
    if found["n"] < LEAST:
        return f"too few pairs to tell, it takes {LEAST}: {shown}"
    if low is None or low <= 0 <= high:
        return f"no difference is certain: {shown}"
    return f"the {'second' if low > 0 else 'first'} run is better: {shown}"
