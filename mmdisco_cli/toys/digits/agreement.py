"""Figures of judged samples: how often modalities agree, how often each digit occurs, how far from real they are."""

from collections.abc import Collection, Mapping, Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.measures.bootstrap import Measure, estimate, gap_closed, mean_of
from mmdisco_cli.measures.distances import Feature, distances
from mmdisco_cli.toys.digits.reading import Judged

ALL = "agreement"
COMPARED = ("real", "independent", "guided")
DIGITS = 10


def names_of(modalities: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Return the names of the figures of agreement, and the modalities that each compares: all of them, then pairs."""
    pairs = {f"agreement_{a}_{b}": (a, b) for a, b in combinations(modalities, 2)}
    return {ALL: tuple(modalities), **(pairs if len(modalities) > 2 else {})}


def agreeing(judged: Judged, modalities: Sequence[str]) -> Tensor:
    """Return whether the modalities of each sample are judged to be one digit, (N,)."""
    digits = torch.stack([judged.verdicts[m].digits for m in modalities])
    return (digits == digits[0]).all(0) & (digits[0] >= 0)


def agreement(rows: Mapping[str, Judged], modalities: Sequence[str], seed: int) -> dict[str, Any]:
    """Return each figure of agreement by row, with intervals, and how much of the gap to real pairs is closed."""
    figures: dict[str, Any] = {}
    for name, compared in names_of(modalities).items():
        measures = {row: _share(agreeing(judged, compared)) for row, judged in rows.items()}
        figures[name] = {row: estimate(measure, seed).as_json() for row, measure in measures.items()}
        if set(COMPARED) <= measures.keys():
            real, independent, guided = (measures[row] for row in COMPARED)
            figures[name]["gap_closed"] = gap_closed(real, independent, guided, seed).as_json()
    return figures


def given_agreement(judged: Judged, true: Tensor, given: str, seed: int) -> dict[str, Any]:
    """Return how often each other modality, and all of them, are judged to be the digit (N,) that was given."""
    others = [m for m in judged.verdicts if m != given]
    right = {m: judged.verdicts[m].digits == true for m in others}
    shares = {m: estimate(_share(found), seed).as_json() for m, found in right.items()}
    return {**shares, "all": estimate(_share(torch.stack(list(right.values())).all(0)), seed).as_json()}


def digit_shares(rows: Mapping[str, Judged], seed: int) -> dict[str, Any]:
    """Return the share of each digit among the samples of each row, by modality, and the least and the greatest.

    A sample that is judged to be no digit counts for none, so that shares may add up to less than 1.
    """
    found: dict[str, Any] = {}
    for row, judged in rows.items():
        for m, verdicts in judged.verdicts.items():
            of_digit = {str(k): (verdicts.digits == k).double().tolist() for k in range(DIGITS)}
            by_digit = {name: estimate(mean_of(is_it), seed) for name, is_it in of_digit.items()}
            values = [one.value for one in by_digit.values()]
            about = {"min": min(values), "max": max(values), "n": len(judged)}
            found.setdefault(m, {})[row] = {**about, **{name: one.as_json() for name, one in by_digit.items()}}
    return found


def feature_of(modality: str) -> Feature:
    """Return what is measured of a judge's features of a modality."""
    return Feature(f"kd_{modality}", f"kd_{modality}", about={"extractor": "judge"})


def quality(
    rows: Mapping[str, Judged], reference: Mapping[str, Tensor], chosen: Collection[str], seed: int
) -> dict[str, Any]:
    """Return how near each row is to real items (M, D), by modality with features of these: see `distances`."""
    features = [feature_of(m) for m in reference]
    found = {
        row: {f"kd_{m}": known for m in reference if (known := judged.verdicts[m].features) is not None}
        for row, judged in rows.items()
    }
    real = {f"kd_{m}": one.double() for m, one in reference.items()}
    return distances(found, real, chosen, features, seed)


def confusion(judged: Judged, first: str, second: str) -> Tensor:
    """Return how often the first modality is judged one digit and the second another, (10, 10)."""
    a, b = (judged.verdicts[m].digits for m in (first, second))
    known = (a >= 0) & (b >= 0)
    return torch.bincount(a[known] * DIGITS + b[known], minlength=DIGITS**2).reshape(DIGITS, DIGITS)


def _share(found: Tensor) -> Measure:
    return mean_of(found.double().tolist())
