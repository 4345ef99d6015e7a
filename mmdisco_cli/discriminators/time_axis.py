"""Modalities on one time axis: every latent is cut into the same number of time steps, whatever its own rate.

Where a length is not a multiple of the number of steps, neighbouring steps overlap, so that each covers all its time.
"""

import math
from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor


def common_steps(shapes: Mapping[str, tuple[int, ...]], most: int) -> int:
    """Return the number of time steps for latents of shapes (C, T, ...), at most `most`.

    It divides all lengths T, unless that would be less than half of the largest number possible.

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
    """Return how many latent values of a modality one step has."""
    channels, time, *rest = shape
    return channels * -(-time // steps) * math.prod(rest)


def to_steps(x: Tensor, steps: int) -> Tensor:
    """Cut latents (B, C, T, ...) into steps: (B, steps, values)."""
    if x.shape[2] % steps:
        x = x.index_select(2, _indices(x.shape[2], steps).flatten().to(x.device))
    tokens: Tensor = x.unflatten(2, (steps, -1)).transpose(1, 2).flatten(2)
    return tokens


def from_steps(tokens: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Invert `to_steps` for a latent shape (C, T, ...); where steps overlap, the later one gives the values."""
    channels, time, *rest = shape
    steps = tokens.shape[1]
    width = -(-time // steps)
    x = tokens.reshape(-1, steps, channels, width, *rest).transpose(1, 2).flatten(2, 3)
    return x.index_select(2, _positions(time, steps).to(x.device)) if time % steps else x


def _starts(length: int, steps: int) -> Tensor:
    return torch.arange(steps) * length // steps


def _indices(length: int, steps: int) -> Tensor:
    """Return the time indices (steps, width) of each step."""
    width = -(-length // steps)
    return (_starts(length, steps)[:, None] + torch.arange(width)).clamp(max=length - 1)


def _positions(length: int, steps: int) -> Tensor:
    """Return the position of each time index (length,) in the flattened steps: that in the last step that has begun."""
    index, starts = torch.arange(length), _starts(length, steps)
    step = torch.searchsorted(starts, index, right=True) - 1
    return step * -(-length // steps) + index - starts[step]
