"""Kernel distances of every row of a report to one reference set of real films."""

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

from mmdisco_cli.evaluation.bootstrap import finite
from mmdisco_cli.evaluation.features import NAMES
from mmdisco_cli.evaluation.kernel import Distance, distance_ratio, kernel_distance

Features = Mapping[str, Tensor]


def distances(rows: Mapping[str, Features], reference: Features, chosen: Collection[str]) -> dict[str, dict[str, Any]]:
    """Return for each chosen feature the distance of each row from the reference, and `ratio`: guided over independent.

    `real` is a second set of real films: the distance that means none. The ratio says nothing where the independent
    samples are themselves as near as that; then it is None.
    """
    table: dict[str, dict[str, Any]] = {}
    for name in (name for name in NAMES if name in chosen):
        found = {row: kernel_distance(features[name], reference[name]) for row, features in rows.items()}
        table[name] = {row: distance.as_json() for row, distance in found.items()}
        if {"guided", "independent"} <= rows.keys():
            ratio = distance_ratio(rows["guided"][name], rows["independent"][name], reference[name])
            table[name]["ratio"] = ratio.as_json() if _apart(found["independent"]) else None
    return table


def _apart(distance: Distance) -> bool:
    return finite(distance.error) is not None and distance.value > 2 * distance.error
