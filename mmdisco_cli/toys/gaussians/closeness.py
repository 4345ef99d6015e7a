"""How close rows of samples come to the true distribution: mass on modes, distance, coverage, share of each mode."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from mmdisco_cli.evaluation.verdict.conclusion import difference_of
from mmdisco_cli.measures.bootstrap import FIRST, REFERENCE, Influenced, estimate, mean_of, shares
from mmdisco_cli.measures.density import MEASURES
from mmdisco_cli.measures.distances import spread
from mmdisco_cli.measures.scales import as_they_are
from mmdisco_cli.toys.gaussians.data import Gaussians

DIRECTIONS = 128
NEIGHBOURS = {measure: f"{measure}_points" for measure in MEASURES}
CLOSENESS = ("mass_on_modes", "sliced_wasserstein")
METRICS = (*CLOSENESS, "mode_share", *NEIGHBOURS.values())


def sample_metrics(
    rows: Mapping[str, Tensor], points: Gaussians, seed: int, chosen: Collection[str] = METRICS
) -> dict[str, Any]:
    """Return the chosen figures for each row of samples (n, M), and for fresh real ones, beside held-out real ones."""
    count = max(map(len, rows.values()))
    held_out = points.split("heldout").media(range(2 * count), points.modalities)
    first, second = torch.cat([held_out[m] for m in points.modalities], dim=1).split(count)
    rows = {**rows, "real": second}
    modes = {name: points.mixture.modes_of(x) for name, x in rows.items()}
    distances = {name: sliced(x, first[: len(x)]) for name, x in rows.items()}
    found = {
        "mass_on_modes": _mass(modes, seed),
        "sliced_wasserstein": {name: one.estimate(seed).as_json() for name, one in distances.items()},
        "mode_share": {"of all modalities": {name: _shares(one, points, seed) for name, one in modes.items()}},
    }
    names = {measure: name for measure, name in NEIGHBOURS.items() if name in chosen}
    if names:
        found |= spread(names, {name: x.double() for name, x in rows.items()}, first.double(), as_they_are, seed)
    return {name: one for name, one in found.items() if name in chosen}


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = DIRECTIONS, seed: int = 0) -> float:
    """Return the sliced 2-Wasserstein distance of two samples (n, M): the root mean square over random directions."""
    return float(sliced(a, b, directions, seed).value)


def sliced(a: Tensor, b: Tensor, directions: int = DIRECTIONS, seed: int = 0) -> Influenced:
    """Return that distance with the influence of each point: of one direction, its Kantorovich potential there."""
    across = torch.randn(a.shape[1], directions, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    across = across / across.norm(dim=0)
    (x, of_a), (y, of_b) = ((one.double() @ across).sort(0) for one in (a, b))
    gaps = x - y
    value = gaps.square().mean().sqrt()
    influence = {FIRST: _influence(x, gaps, of_a), REFERENCE: _influence(y, -gaps, of_b)}
    halved = {stream: one / (2 * value) if float(value) > 0 else one for stream, one in influence.items()}
    return Influenced(value, halved, least=0.0)


def _influence(x: Tensor, gaps: Tensor, order: Tensor) -> Tensor:
    """Return by point what it adds to the mean square of gaps (n, K): twice the gap is the slope of its potential."""
    steps = x.diff(dim=0) * (gaps[1:] + gaps[:-1])
    potential = torch.cat([torch.zeros_like(x[:1]), steps.cumsum(0)])
    by_point = torch.zeros_like(potential).scatter_(0, order, potential).mean(1)
    return (by_point - by_point.mean()) / len(x)


def _mass(modes: Mapping[str, Tensor], seed: int) -> dict[str, Any]:
    on = {name: (found >= 0).double().tolist() for name, found in modes.items()}
    figures: dict[str, Any] = {name: estimate(mean_of(values), seed).as_json() for name, values in on.items()}
    if {"independent", "guided"} <= on.keys():
        figures["difference"] = difference_of(list(zip(on["independent"], on["guided"], strict=True)), seed)
    return figures


def _shares(modes: Tensor, points: Gaussians, seed: int) -> dict[str, Any]:
    """Return the share of the points on any mode that lie on each, with its interval, and `n` of them."""
    names = [f"mode {k}" for k in range(len(points.mixture.means))]
    on = modes[modes >= 0]
    return {**shares(one_hot(on, len(names)), names, seed), "n": len(on)}
