"""What features are divided by before their kernel distance: the reference sets it for both sets."""

from collections.abc import Callable

import torch
from torch import Tensor

LEAST_SCALE = 0.25
"""Features that vary less than this share of the root mean square over all are not blown up to the size of the others:
one ball in a corner that is empty in the reference would else outweigh everything."""
TINY = 1e-300
Scale = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Features (N, D), a reference (M, D) and how much each clip of it counts (M,): both sets as they are compared.

They can be differentiated in the counts, which say what the scale would be without a clip.
"""


def standardised(x: Tensor, reference: Tensor, counts: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return both sets in float64, shifted by the mean of the reference and scaled by its deviation, with a floor."""
    x, reference = x.double(), reference.double()
    counts = _all(reference) if counts is None else counts
    centre = counts @ reference / counts.sum()
    std = _root(counts @ (reference - centre).square() / counts.sum())
    floor = LEAST_SCALE * _root(std.square().mean())
    scale = torch.where(floor > 0, std.maximum(floor), 1.0)
    return (x - centre) / scale, (reference - centre) / scale


def as_they_are(x: Tensor, reference: Tensor, counts: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return both sets in float64, however much a clip counts."""
    return x.double(), reference.double()


def over_rms(x: Tensor, reference: Tensor, counts: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return both sets in float64, over the root mean square of the reference: the kernel is not scale invariant."""
    counts = _all(reference) if counts is None else counts
    size = _root(counts @ reference.double().square().mean(1) / counts.sum())
    size = torch.where(size > 0, size, 1.0)
    return x.double() / size, reference.double() / size


def _all(reference: Tensor) -> Tensor:
    return torch.ones(len(reference), dtype=torch.float64)


def _root(squares: Tensor) -> Tensor:
    """Return a root whose derivative at zero is zero instead of infinite."""
    return torch.where(squares > 0, squares.clamp_min(TINY).sqrt(), 0.0)
