"""How much a discriminator's logit depends on the pair: 0 for a sum of functions of one modality each."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

ADDITIVE = 1e-4
"""An interaction below this is rounding error, or a network that has learnt nothing of the pair."""


def mismatched_tuples(real: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return two mismatched tuples (N, ...): no two states of a row are of one clip, also after exchanging a state.

    Over such tuples the interaction is the share of the logit's variance that no single modality explains, at most 1.
    Over matching pairs it would be a multiple of that share. Needs at least twice as many clips as modalities.
    """
    apart = {m: x.roll(-2 * k, 0) for k, (m, x) in enumerate(real.items())}
    return apart, {m: x.roll(-1, 0) for m, x in apart.items()}


def interaction(
    logit: Callable[[Mapping[str, Tensor]], Tensor], x: Mapping[str, Tensor], y: Mapping[str, Tensor]
) -> float:
    """Return I = E[(l(x) - l(x with y's m) - l(y with x's m) + l(y))^2] / (4 Var l), averaged over the modalities m.

    `x` and `y` are noisy states (B, ...) of mismatched clips (see `mismatched_tuples`), row by row at the same noise
    levels; for two modalities this is E[(l(x, y) - l(x, y') - l(x', y) + l(x', y'))^2] / (4 Var l).
    """
    return float(interaction_of(interaction_sums(logit, x, y).sum(0)))


def interaction_sums(
    logit: Callable[[Mapping[str, Tensor]], Tensor], x: Mapping[str, Tensor], y: Mapping[str, Tensor]
) -> Tensor:
    """Return (B, 5), what each row adds to `interaction_of`: 1, its square, and of its logits count, sum, squares."""
    own, other = logit(x).double(), logit(y).double()
    squares, logits = [], [own, other]
    for m in x:
        here, there = logit({**x, m: y[m]}).double(), logit({**y, m: x[m]}).double()
        squares.append((own - here - there + other).square())
        logits += [here, there]
    every = torch.stack(logits, 1)
    every = every - every.mean()  # of which sums of squares keep all digits
    one = torch.ones_like(own)
    square = torch.stack(squares).mean(0)
    return torch.stack([one, square, every.shape[1] * one, every.sum(1), every.square().sum(1)], 1)


def interaction_of(totals: Tensor) -> Tensor:
    """Return the interaction (...) from totals (..., 5) of `interaction_sums`, 0 where the logit never changes."""
    rows, square, n, total, squares = totals.unbind(-1)
    variance = (squares - total.square() / n).clamp_min(0) / (n - 1)
    known = variance > 0
    return torch.where(known, square / rows / (4 * variance.where(known, torch.ones_like(variance))), 0.0)
