"""Modalities on one time axis: every latent cut into the same number of steps, whatever its own rate.

Where a length is no multiple of the steps, they overlap: each is long enough to hold all that happens in its time.
"""

import math
from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor


def common_steps(shapes: Mapping[str, tuple[int, ...]], most: int) -> int:
    """Return the number of steps that every latent shape (C, T, ...) is cut into, at most `most`.

    It divides all lengths, unless that would leave less than half of the steps that the shortest of them has.

    Raises:
        ValueError: a modality has no time axis.
    """
    if any(len(shape) < 2 for shape in shapes.values()):
        raise ValueError(f"time-aligned discriminators need a time axis in every modality, got {dict(shapes)}")
    lengths = [shape[1] for shape in shapes.values()]
    common, finest = reduce(math.gcd, lengths), min(*lengths, most)
    even = max(steps for steps in range(1, min(common, most) + 1) if common % steps == 0)
    return even if 2 * even >= finest else finest


def step_width(shape: tuple[int, ...], steps: int) -> int:
    """Return how many latent values of a modality fall into one step."""
    channels, time, *rest = shape
    return channels * -(-time // steps) * math.prod(rest)


def to_steps(x: Tensor, steps: int) -> Tensor:
    """Cut (B, C, T, ...) into (B, steps, values): all that happens within one step side by side."""
    if x.shape[2] % steps:
        x = x.index_select(2, _held(x.shape[2], steps).flatten().to(x.device))
    tokens: Tensor = x.unflatten(2, (steps, -1)).transpose(1, 2).flatten(2)
    return tokens


def from_steps(tokens: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Invert `to_steps` for a latent shape (C, T, ...); where steps overlap, what begins with a step is its own."""
    channels, time, *rest = shape
    steps = tokens.shape[1]
    width = -(-time // steps)
    x = tokens.reshape(-1, steps, channels, width, *rest).transpose(1, 2).flatten(2, 3)
    return x.index_select(2, _owned(time, steps).to(x.device)) if time % steps else x


def _starts(length: int, steps: int) -> Tensor:
    return torch.arange(steps) * length // steps


def _held(length: int, steps: int) -> Tensor:
    """Return the indices (steps, width) of what each step holds."""
    width = -(-length // steps)
    return (_starts(length, steps)[:, None] + torch.arange(width)).clamp(max=length - 1)


def _owned(length: int, steps: int) -> Tensor:
    """Return where each index (length,) lies among all that the steps hold: in the last one that has begun."""
    index, starts = torch.arange(length), _starts(length, steps)
    step = torch.searchsorted(starts, index, right=True) - 1
    return step * -(-length // steps) + index - starts[step]
