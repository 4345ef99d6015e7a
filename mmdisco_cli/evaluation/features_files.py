"""Distances between features extracted elsewhere: `mmdisco eval --features real.npz fake.npz`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.evaluation.protocol import Report
from mmdisco_cli.evaluation.tables import tabulate
from mmdisco_cli.extractors.compat import compatible_name, numerics, rounding_lines
from mmdisco_cli.measures import kernel
from mmdisco_cli.measures.bootstrap import finite
from mmdisco_cli.measures.cache import UNREADABLE
from mmdisco_cli.measures.density import MEASURES
from mmdisco_cli.measures.distances import frechet_record, size_of, spread, warn_of_few
from mmdisco_cli.measures.frechet import HALVES, SIZES, Gaussian, distance, fitted, from_moments, in_order
from mmdisco_cli.measures.scales import as_they_are
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.run.files import sha256_of
from mmdisco_cli.run.options import EvalOptions

METRICS = ("fd", "kd", *MEASURES)
HUGE = 1e50
"""Above it the third powers of the kernel exceed float64."""
MOMENTS = (("mu", "sigma"), ("mean", "cov"))


@dataclass(frozen=True)
class Loaded:
    """What a file holds: features (N, D), or only the Gaussian fitted to them."""

    features: Tensor | None
    gaussian: Gaussian | None


def evaluate(options: EvalOptions, ranks: Ranks) -> Report | None:
    """Compare the two files of --features on the first rank: see `compare_features`."""
    return compare_features(*options.features, options) if options.features and ranks.first else None


def compare_features(real: Path, fake: Path, options: EvalOptions) -> Report:
    """Return Frechet and kernel distance of two files of features, unscaled, with their spreads.

    A file is .npy, or .npz with one array (N, D), one called `features`, or `mu` and `sigma`, which give a Frechet
    distance alone.

    Raises:
        DataError: a file cannot be read, holds neither, or the two differ in dimension.
        UsageError: --metrics names the kernel distance of moments, or --compat unknown numerics.
    """
    reference, samples = load_features(real), load_features(fake)
    chosen = options.metrics or METRICS
    if samples.features is not None and reference.features is not None:
        metrics = _of_features(samples.features, reference.features, options)
    elif options.compat:
        raise UsageError(f"--compat {options.compat}: takes features, not their moments")
    elif lacking := [name for name in options.metrics if name != "fd"]:
        what = "kernel distance" if lacking[0] == "kd" else lacking[0]
        raise UsageError(f"--metrics {lacking[0]}: moments alone have no {what}")
    else:
        metrics = {"fd": {"samples": _of_moments(samples, reference)}}
    metrics = {name: found for name, found in metrics.items() if name in chosen or name not in METRICS}
    protocol = {
        "extractor": "unknown: features made elsewhere",
        "weights": None,
        "files": {
            row: {"path": str(path), "sha256": sha256_of(path)} for row, path in (("real", real), ("fake", fake))
        },
        "frechet": (
            f"float64, covariance of N - 1; error: {HALVES} halves of both sets; infinite: {SIZES} subsets of both"
        ),
        "kernel": "(x.y/D + 1)^3, unbiased, unscaled, error by jackknife, pairs counted once; subsets as in KID",
        "seed": options.seed,
    }
    n = len(samples.features) if samples.features is not None else 0
    return Report(n, metrics, protocol, _table(metrics))


def load_features(path: Path) -> Loaded:
    """Read features or their moments; raise DataError, naming the file, where there is neither."""
    arrays = _arrays(path)
    for names in MOMENTS:
        if all(name in arrays for name in names):
            mean, covariance = (_checked(path, arrays[name]) for name in names)
            if mean.ndim != 1 or covariance.shape != (*mean.shape, *mean.shape) or not len(mean):
                raise DataError(f"{path}: {names[0]} and {names[1]} must be (D,) and (D, D)")
            try:
                return Loaded(None, from_moments(mean, covariance, _count(path, arrays)))
            except ValueError as error:
                raise DataError(f"{path}: {names[1]} is not a covariance: {error}") from error
    candidates = [name for name, array in arrays.items() if array.ndim == 2]
    chosen = "features" if "features" in candidates else candidates[0] if len(candidates) == 1 else None
    if chosen is None:
        have = ", ".join(f"{name} {array.shape}" for name, array in arrays.items()) or "nothing"
        raise DataError(f"{path}: expected one array (N, D), `features`, or `mu` and `sigma`; it holds {have}")
    features = _checked(path, arrays[chosen])
    if len(features) < 2:
        raise DataError(f"{path}: a distance takes at least two clips")
    if not features.shape[1]:
        raise DataError(f"{path}: its features have no dimensions")
    return Loaded(in_order(features), None)


def _arrays(path: Path) -> dict[str, npt.NDArray[Any]]:
    try:
        with path.open("rb") as stream:
            found = np.load(stream, allow_pickle=False)
            if isinstance(found, np.ndarray):
                return {"features": found}
            # What is no array in a .npz is read as bytes.
            return {name: array for name in found.files if isinstance(array := found[name], np.ndarray)}
    except UNREADABLE as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "no NumPy file without pickles"
        raise DataError(f"{path}: {reason}") from error


def _count(path: Path, arrays: dict[str, npt.NDArray[Any]]) -> int | None:
    """Return of how many clips a file says that its moments are."""
    if "n" not in arrays:
        return None
    found = _checked(path, arrays["n"])
    if found.numel() != 1 or float(found) < 1 or float(found) % 1:
        raise DataError(f"{path}: n must be one whole number, that of clips")
    return int(found)


def _checked(path: Path, array: npt.NDArray[Any]) -> Tensor:
    if array.dtype.kind not in "fiu":
        raise DataError(f"{path}: holds {array.dtype}, not numbers")
    with np.errstate(all="ignore"):  # what no float64 can hold is refused next
        values = torch.from_numpy(array.astype(np.float64))
    if not bool((values.abs() < HUGE).all()):
        raise DataError(f"{path}: not all of its numbers are finite, or some exceed 1e50")
    return values


def _of_features(samples: Tensor, reference: Tensor, options: EvalOptions) -> dict[str, Any]:
    if samples.shape[1] != reference.shape[1]:
        raise DataError(f"features of {samples.shape[1]} and of {reference.shape[1]} dimensions do not compare")
    warn_of_few("fd", samples, reference)
    found = kernel.kernel_distance(samples, reference, as_they_are)
    record: dict[str, Any] = found.as_json(options.seed) | size_of(samples, reference)
    if min(len(samples), len(reference)) >= 4:
        parts = kernel.over_subsets(samples, reference, options.seed)
        size = min(kernel.SUBSET, min(len(samples), len(reference)) // 2)
        record["subsets"] = {
            "mean": finite(parts.value), "std": finite(parts.error), "count": kernel.SUBSETS, "size": size
        }  # fmt: skip
    metrics = {"fd": {"samples": frechet_record(samples, reference, options.seed)}, "kd": {"samples": record}}
    metrics |= spread({name: name for name in MEASURES}, {"samples": samples}, reference, as_they_are, options.seed)
    if options.compat:
        theirs = numerics(options.compat)
        named = {"value": finite(theirs(samples, reference)), "error": None, **size_of(samples, reference)}
        about = {"numerics": options.compat, "of_itself": finite(theirs(reference, reference))}
        metrics[compatible_name("fd", options.compat)] = {"samples": named, "protocol": about}
    return metrics


def _of_moments(samples: Loaded, reference: Loaded) -> dict[str, Any]:
    a, b = (
        one.gaussian or fitted(one.features)  # type: ignore[arg-type]
        for one in (samples, reference)
    )
    if len(a.mean) != len(b.mean):
        raise DataError(f"features of {len(a.mean)} and of {len(b.mean)} dimensions do not compare")
    sizes = {"n": a.count, "n_reference": b.count, "dimension": len(a.mean)}
    return {"value": finite(distance(a, b)), "error": None, "infinite": None, **sizes}


def _table(metrics: dict[str, Any]) -> list[str]:
    lines = tabulate(metrics, tuple(metrics), ("samples",))
    one = next(iter(metrics.values()))["samples"]
    return [
        *lines,
        "",
        f"{one['n']} samples, {one['n_reference']} references, {one['dimension']} dimensions",
        *rounding_lines(metrics),
    ]
