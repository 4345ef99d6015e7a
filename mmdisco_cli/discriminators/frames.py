"""Modalities on one time axis: every latent cut into the same number of steps, whatever its own rate."""

import math
from collections.abc import Mapping
from functools import reduce

from torch import Tensor


def common_steps(shapes: Mapping[str, tuple[int, ...]], most: int) -> int:
    """Return the number of steps that divides the time axis of every latent shape (C, T, ...), at most `most`.

    Raises:
        ValueError: a modality has no time axis.
    """
    if any(len(shape) < 2 for shape in shapes.values()):
        raise ValueError(f"time-aligned discriminators need a time axis in every modality, got {dict(shapes)}")
    common = reduce(math.gcd, (shape[1] for shape in shapes.values()))
    return max(steps for steps in range(1, min(common, most) + 1) if common % steps == 0)


def step_width(shape: tuple[int, ...], steps: int) -> int:
    """Return how many latent values of a modality fall into one step."""
    return math.prod(shape) // steps


def to_steps(x: Tensor, steps: int) -> Tensor:
    """Cut (B, C, T, ...) into (B, steps, values): all that happens within one step side by side."""
    tokens: Tensor = x.unflatten(2, (steps, -1)).transpose(1, 2).flatten(2)
    return tokens


def from_steps(tokens: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Invert `to_steps` for a latent shape (C, T, ...)."""
    channels, time, *rest = shape
    steps = tokens.shape[1]
    return tokens.reshape(-1, steps, channels, time // steps, *rest).transpose(1, 2).reshape(-1, *shape)
