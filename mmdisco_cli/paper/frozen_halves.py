"""A batch under classifier-free guidance: its first half, and the residual that its second half has over it.

Guidance evaluates the same states twice, without and with their text, and takes g_1 + s * (g_2 - g_1) of the two
gradients. Computed apart, the scale s multiplies the rounding of both. Carried as first and residual, the difference is
there from the start: it is exactly zero until the first text enters, and small after it.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Halves(NamedTuple):
    """A state or a gradient of the first half of a batch, and second half minus first; None where that is zero.

    A batch whose halves differ, or that is not of two halves, is all in `first`.
    """

    first: Tensor
    residual: Tensor | None


Terms = tuple[Tensor] | Halves
"""The tensors that sum to one half: the first alone, or first and residual for the second."""


def halves_are_equal(x: Tensor) -> bool:
    """Return whether both halves of a batch (B, ...) hold the same states, as classifier-free guidance makes them."""
    half = len(x) // 2
    return not x.is_meta and half > 0 and len(x) == 2 * half and torch.equal(x[:half], x[half:])


def joined(x: Halves) -> Tensor:
    """Return the whole batch."""
    return x.first if x.residual is None else torch.cat([x.first, x.first + x.residual])


def added(onto: Halves, x: Halves) -> Halves:
    """Return the sum in float32, in the memory of `onto` where that is float32 already."""
    first = onto.first.add_(x.first) if onto.first.dtype == torch.float32 else onto.first + x.first.float()
    if onto.residual is None or x.residual is None:
        return Halves(first, x.residual if onto.residual is None else onto.residual)
    return Halves(first, onto.residual.float().add_(x.residual))


def saved_for_backward(x: Halves, low_precision: torch.dtype) -> Halves:
    """Return what to keep of a state for its backward: the residual in low precision, the first half as it is."""
    return Halves(x.first, None if x.residual is None else x.residual.to(low_precision))
