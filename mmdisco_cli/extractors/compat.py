"""Numerics of publications, slips and all, for those who must compare with their tables."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.errors import UsageError, did_you_mean

LEAST = 1e-10
"""Singular values below this are left as they are where their root is meant."""


def mm_diffusion(x: Tensor, y: Tensor) -> float:
    """Return the Frechet distance of features (N, D) and (M, D) as MM-Diffusion's code gives it, in float32.

    The distance of a set from itself is not zero by it, nor is it the same on every machine: singular values that are
    nothing but rounding are kept instead of their roots.
    """
    x, y = x.float(), y.float()
    first, second = _covariance(x), _covariance(y)
    root = _root(first)
    shared = _root(root @ second @ root).trace()
    return float((first + second).trace() - 2 * shared + (x.mean(0) - y.mean(0)).square().sum())


COMPAT: Mapping[str, Callable[[Tensor, Tensor], float]] = {"mm-diffusion": mm_diffusion}


def numerics(name: str) -> Callable[[Tensor, Tensor], float]:
    """Return the distance by a publication's numerics; raise UsageError for an unknown one."""
    if name not in COMPAT:
        raise UsageError(f"--compat {name}: unknown{did_you_mean(name, COMPAT)}")
    return COMPAT[name]


def compatible_name(distance: str, numerics_of: str) -> str:
    """Return the name of a distance by a publication's numerics."""
    return f"{distance}_{numerics_of.replace('-', '_')}"


def rounding_lines(metrics: Mapping[str, Any]) -> list[str]:
    """Return for each distance by a publication's numerics how much of it may be rounding alone."""
    apart = {name: (figures.get("protocol") or {}).get("of_itself") for name, figures in metrics.items() if figures}
    return [
        f"{name}: the reference is at {value:.3g} from itself, so figures of that size are mostly float32 rounding"
        for name, value in apart.items()
        if value is not None
    ]


def _covariance(x: Tensor) -> Tensor:
    centred = (x - x.mean(0)).T
    return centred @ centred.T / (len(x) - 1)


def _root(matrix: Tensor) -> Tensor:
    left, values, right = torch.linalg.svd(matrix)
    root: Tensor = left @ torch.diag(torch.where(values < LEAST, values, values.sqrt())) @ right
    return root
