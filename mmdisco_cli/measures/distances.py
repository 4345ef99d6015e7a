"""How near every row of a report is to one reference set of real clips: distances, density, coverage, diversity."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.measures.bootstrap import FIRST, REFERENCE, UNPAIRED, Influenced, difference, finite
from mmdisco_cli.measures.density import LEAST, MEASURES, balls_of, mean_distance, measured
from mmdisco_cli.measures.features import DEFINITIONS, NAMES
from mmdisco_cli.measures.frechet import frechet
from mmdisco_cli.measures.kernel import Distance, distance_difference, distance_ratio, kernel_distance
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

    @property
    def spread(self) -> dict[str, str]:
        """Return the names of density, coverage and diversity by these of these features, as in coverage_logmel."""
        short = self.key.removeprefix("kd_").removeprefix("fad_")
        return {measure: f"{measure}_{short}" for measure in MEASURES} if self.kernel else {}

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of all that is measured of it but multiples."""
        return tuple(name for name in (self.kernel, self.frechet, *self.spread.values()) if name)


BUILT_IN = tuple(
    Feature(
        name,
        name,
        "fd_logmel" if name == "kd_logmel" else "",
        about={"extractor": HAND_MADE, "definition": DEFINITIONS[name]},
    )
    for name in NAMES
)
METRICS = (
    *(name for feature in BUILT_IN for name in (feature.frechet, feature.kernel) if name),
    *(feature.spread[measure] for measure in MEASURES for feature in BUILT_IN),
)


def distances(
    rows: Mapping[str, Features],
    reference: Features,
    chosen: Collection[str],
    features: Sequence[Feature] = BUILT_IN,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Return for each chosen metric the figure of each row beside the reference.

    `real` is a second set of real clips: what it reaches is all that can be reached. `difference` is guided less
    independent and `ratio` guided over independent, of kernel distances only. The ratio says nothing where the
    independent samples are themselves as near as real ones; then it is None.
    """
    table: dict[str, dict[str, Any]] = {}
    for feature in (one for one in features if not set(one.names).isdisjoint(chosen)):
        sets, real = {row: found[feature.key] for row, found in rows.items()}, reference[feature.key]
        if feature.kernel in chosen:
            table[feature.kernel] = _kernel(sets, real, SCALES[feature.scale], seed)
        if feature.frechet and feature.frechet in chosen:
            table[feature.frechet] = _frechet(feature.frechet, sets, real, seed)
        wanted = {measure: name for measure, name in feature.spread.items() if name in chosen}
        if wanted:
            table |= spread(wanted, sets, real, SCALES[feature.scale], seed)
    return table


def spread(
    names: Mapping[str, str], sets: Mapping[str, Tensor], reference: Tensor, scale: Scale, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Return density, coverage and diversity of each row under the names that they have; None below 7 real clips.

    All sets are scaled by the reference, as for the kernel distance.
    """
    if len(reference) < LEAST:
        unknown = dict.fromkeys(("value", "low", "high"))
        return {name: {row: unknown | size_of(x, reference) for row, x in sets.items()} for name in names.values()}
    scaled = {row: scale(x, reference, torch.ones(len(reference), dtype=torch.float64)) for row, x in sets.items()}
    real = next(iter(scaled.values()))[1]
    balls, apart = balls_of(real), mean_distance(real, REFERENCE)
    paired = len(sets.get("independent", ())) == len(sets.get("guided", ()))
    found = {
        row: measured(x, balls, apart, UNPAIRED if row == "independent" and not paired else FIRST)
        for row, (x, _) in scaled.items()
    }
    return {
        name: {row: one[measure].estimate(seed).as_json() | size_of(sets[row], reference)
               for row, one in found.items() if measure in one}
        | _difference({row: one[measure] for row, one in found.items() if measure in one}, seed)
        for measure, name in names.items()
    }  # fmt: skip


def _difference(found: Mapping[str, Influenced], seed: int) -> dict[str, Any]:
    """Return how far guided samples are above independent ones, where there are both."""
    if not {"guided", "independent"} <= found.keys():
        return {}
    return {"difference": difference(found["guided"], found["independent"]).estimate(seed).as_json()}


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
        unknown = dict.fromkeys(("value", "low", "high", "error", "infinite"))
        return {**unknown, **size_of(x, reference)}
    found = frechet(x, reference, seed)
    further = {"error": finite(found.spread), "infinite": finite(found.infinite)}
    return {**found.interval.as_json(), **further, **size_of(x, reference)}


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
    about = figures.get("protocol") or next((f.about for f in BUILT_IN if name in f.names), {})
    parts = [about.get("extractor"), about.get("preset"), _weights(about.get("weights"), digits)]
    return ", ".join(str(part) for part in parts if part)


def _weights(said: Any, digits: int) -> Any:
    """Return a file and its hash in words; what a plugin says of its weights in another form stays as it is."""
    if isinstance(said, Mapping) and {"file", "sha256"} <= said.keys():
        return f"{said['file']} SHA-256 {str(said['sha256'])[:digits]}"
    return said


def _kernel(sets: Mapping[str, Tensor], reference: Tensor, scale: Scale, seed: int) -> dict[str, Any]:
    found = {row: kernel_distance(x, reference, scale) for row, x in sets.items()}
    table: dict[str, Any] = {row: one.as_json(seed) | size_of(sets[row], reference) for row, one in found.items()}
    if {"guided", "independent"} <= sets.keys():
        pair = sets["guided"], sets["independent"]
        table["ratio"] = distance_ratio(*pair, reference, scale).as_json(seed) if _apart(found["independent"]) else None
        table["difference"] = distance_difference(*pair, reference, scale).as_json(seed)
    return table


def _frechet(name: str, sets: Mapping[str, Tensor], reference: Tensor, seed: int) -> dict[str, Any]:
    warn_of_few(name, min(sets.values(), key=len), reference)
    return {row: frechet_record(x, reference, seed) for row, x in sets.items()}


def _apart(distance: Distance) -> bool:
    return finite(distance.error) is not None and distance.value > 2 * distance.error
