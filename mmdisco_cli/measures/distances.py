"""Kernel and Frechet distances of every row of a report to one reference set of real clips."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from mmdisco_cli.measures.bootstrap import finite
from mmdisco_cli.measures.features import DEFINITIONS, NAMES
from mmdisco_cli.measures.frechet import frechet
from mmdisco_cli.measures.kernel import Distance, distance_ratio, kernel_distance
from mmdisco_cli.measures.scales import Scale, as_they_are, over_rms, standardised
from mmdisco_cli.run import console

Features = Mapping[str, Tensor]
SCALES: Mapping[str, Scale] = {"reference": standardised, "rms": over_rms, "none": as_they_are}
HAND_MADE = "hand-made, no weights"


@dataclass(frozen=True)
class Feature:
    """One vector a clip and what is measured of it: names of its kernel and Frechet distance, empty for neither.

    `scale` says what the kernel distance divides by: see `SCALES`. `about` goes into the protocol as it is. `multiples`
    are further names of the Frechet distance times a factor, `compat` factors by which a publication's own numerics,
    which `--compat` names, multiply it.
    """

    key: str
    kernel: str
    frechet: str = ""
    scale: str = "reference"
    about: Mapping[str, Any] = field(default_factory=dict)
    multiples: Mapping[str, float] = field(default_factory=dict)
    compat: Mapping[str, float] = field(default_factory=dict)


BUILT_IN = tuple(
    Feature(
        name,
        name,
        "fd_logmel" if name == "kd_logmel" else "",
        about={"extractor": HAND_MADE, "definition": DEFINITIONS[name]},
    )
    for name in NAMES
)
METRICS = tuple(name for feature in BUILT_IN for name in (feature.kernel, feature.frechet) if name)


def distances(
    rows: Mapping[str, Features],
    reference: Features,
    chosen: Collection[str],
    features: Sequence[Feature] = BUILT_IN,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Return for each chosen metric the distance of each row from the reference, and `ratio`: guided over independent.

    `real` is a second set of real clips: the distance that means none. The ratio says nothing where the independent
    samples are themselves as near as that; then it is None.
    """
    table: dict[str, dict[str, Any]] = {}
    for feature in (one for one in features if not {one.kernel, one.frechet}.isdisjoint(chosen)):
        sets = {row: found[feature.key] for row, found in rows.items()}
        if feature.kernel in chosen:
            table[feature.kernel] = _kernel(sets, reference[feature.key], SCALES[feature.scale])
        if feature.frechet and feature.frechet in chosen:
            table[feature.frechet] = _frechet(feature.frechet, sets, reference[feature.key], seed)
    return table


def size_of(x: Tensor, reference: Tensor) -> dict[str, int]:
    """Return what a distance is never reported without: clips of either set, and dimensions."""
    return {"n": len(x), "n_reference": len(reference), "dimension": x.shape[1]}


def warn_of_few(name: str, x: Tensor, reference: Tensor) -> None:
    """Warn where a Frechet distance is mostly bias."""
    few, many = min(len(x), len(reference)), x.shape[1]
    if few <= many:
        console.warn(f"{name}: {few} clips for {many} dimensions, so that it is mostly bias: go by the kernel distance")


def frechet_record(x: Tensor, reference: Tensor, seed: int = 0) -> dict[str, Any]:
    """Return a Frechet distance with its spread, its limit and its sizes, as JSON can hold them."""
    if min(len(x), len(reference)) < 2:
        return {"value": None, "error": None, "infinite": None, **size_of(x, reference)}
    found = frechet(x, reference, seed)
    spread = {"value": finite(found.value), "error": finite(found.spread), "infinite": finite(found.infinite)}
    return spread | size_of(x, reference)


def sources(metrics: Mapping[str, Any]) -> list[str]:
    """Return what figures are never reported without, a line a kind: clips, dimensions, network and weights."""
    names: dict[str, list[str]] = {}
    for name, figures in metrics.items():
        sizes, source = _sizes(figures), source_of(name, figures)
        # A mean over clips that no network found stands in the table.
        if source or sizes.startswith("D"):
            names.setdefault("; ".join(part for part in (sizes, source) if part), []).append(name)
    return [f"{', '.join(found)}: {line}" for line, found in names.items()]


def _sizes(figures: Mapping[str, Any]) -> str:
    """Return dimensions and clips of each row, with how many real ones they are compared with."""
    sized = {row: one for row, one in figures.items() if isinstance(one, Mapping) and "n" in one}
    against: dict[int | None, list[str]] = {}
    for row, one in sized.items():
        against.setdefault(one.get("n_reference"), []).append(f"{one['n']} {row}")
    counts = ", ".join(
        ", ".join(rows) + (f" against {count}" if count is not None else "") for count, rows in against.items()
    )
    dimension = next((f"D {one['dimension']}, " for one in sized.values() if "dimension" in one), "")
    return f"{dimension}N {counts}" if sized else ""


def source_of(name: str, figures: Mapping[str, Any], digits: int = 64) -> str:
    """Return the network of a metric with its preset and the hash of its weights, empty where there is none."""
    about = figures.get("protocol") or next((f.about for f in BUILT_IN if name in (f.kernel, f.frechet)), {})
    parts = [about.get("extractor"), about.get("preset"), _weights(about.get("weights"), digits)]
    return ", ".join(str(part) for part in parts if part)


def _weights(said: Any, digits: int) -> Any:
    """Return a file and its hash in words; what a plugin says of its weights in another form stays as it is."""
    if isinstance(said, Mapping) and {"file", "sha256"} <= said.keys():
        return f"{said['file']} SHA-256 {str(said['sha256'])[:digits]}"
    return said


def _kernel(sets: Mapping[str, Tensor], reference: Tensor, scale: Scale) -> dict[str, Any]:
    found = {row: kernel_distance(x, reference, scale) for row, x in sets.items()}
    table: dict[str, Any] = {row: one.as_json() | size_of(sets[row], reference) for row, one in found.items()}
    if {"guided", "independent"} <= sets.keys():
        ratio = distance_ratio(sets["guided"], sets["independent"], reference, scale)
        table["ratio"] = ratio.as_json() if _apart(found["independent"]) else None
    return table


def _frechet(name: str, sets: Mapping[str, Tensor], reference: Tensor, seed: int) -> dict[str, Any]:
    warn_of_few(name, min(sets.values(), key=len), reference)
    return {row: frechet_record(x, reference, seed) for row, x in sets.items()}


def _apart(distance: Distance) -> bool:
    return finite(distance.error) is not None and distance.value > 2 * distance.error
