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
    own, other = logit(x).double(), logit(y).double()
    squares, logits = [], [own, other]
    for m in x:
        here, there = logit({**x, m: y[m]}).double(), logit({**y, m: x[m]}).double()
        squares.append((own - here - there + other).square().mean())
        logits += [here, there]
    variance = torch.cat(logits).var()
    return float(torch.stack(squares).mean() / (4 * variance)) if variance > 0 else 0.0
