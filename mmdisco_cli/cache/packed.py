"""Sequences of tokens without the zeros that pad them: a text costs what it says, and comes back to the bit."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Packed(NamedTuple):
    """Sequences of one shape (N, L, ...): what tokens there are, one sequence after another, and where they belong."""

    rows: Tensor
    """(R, ...): all tokens that are not zero."""
    kept: Tensor
    """(N, L): which these are."""
    first: Tensor
    """(N, 1): where a sequence begins in `rows`."""


def packed(sequences: Tensor) -> Packed | None:
    """Return sequences (N, L, ...) packed; None where none of their tokens are zeros, which have no other bit set."""
    if sequences.ndim < 3 or not sequences.numel():
        return None
    kept = (sequences.contiguous().view(torch.uint8) != 0).flatten(2).any(2)
    if bool(kept.all()):
        return None
    counts = kept.sum(1)
    return Packed(sequences[kept], kept, (counts.cumsum(0) - counts)[:, None])


def unpacked(rows: Tensor, kept: Tensor) -> Tensor:
    """Return one sequence (1, L, ...) of its own tokens (R, ...) and where they belong (L,)."""
    found = rows.new_zeros((1, len(kept), *rows.shape[1:]))
    found[0, kept] = rows
    return found


def parts_of(slot: str) -> Sequence[str]:
    """Return the names under which a packed slot's tensors are stored, in the order of `Packed`."""
    return [f"{slot}#{part}" for part in Packed._fields]
