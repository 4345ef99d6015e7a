"""How much a discriminator's verdict hangs on the pair: nothing where it is a sum of functions of one modality each."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

ADDITIVE = 1e-4
"""An interaction below this is rounding, or a network that has learnt nothing of the pair."""


def strangers(real: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return two tuples (N, ...) of real ones in which no two states are of one clip, nor after swapping one state.

    Over such tuples the interaction is the share of the logit's variance that no modality explains by itself, at most
    1. Over real pairs it would be a multiple of that share. It takes at least twice as many clips as modalities.
    """
    apart = {m: x.roll(-2 * k, 0) for k, (m, x) in enumerate(real.items())}
    return apart, {m: x.roll(-1, 0) for m, x in apart.items()}


def interaction(
    logit: Callable[[Mapping[str, Tensor]], Tensor], x: Mapping[str, Tensor], y: Mapping[str, Tensor]
) -> float:
    """Return I = E[(l(x) - l(x with y's m) - l(y with x's m) + l(y))^2] / (4 Var l), averaged over the modalities m.

    `x` and `y` are tuples of unrelated noisy states (B, ...) (`strangers`), row by row at the same noise levels; for
    two modalities this is E[(l(x, y) - l(x, y') - l(x', y) + l(x', y'))^2] / (4 Var l).
    """
    own, other = logit(x).double(), logit(y).double()
    squares, logits = [], [own, other]
    for m in x:
        here, there = logit({**x, m: y[m]}).double(), logit({**y, m: x[m]}).double()
        squares.append((own - here - there + other).square().mean())
        logits += [here, there]
    variance = torch.cat(logits).var()
    return float(torch.stack(squares).mean() / (4 * variance)) if variance > 0 else 0.0
