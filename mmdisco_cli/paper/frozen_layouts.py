"""How the states of the frozen blocks lie in memory, and as which images a convolution reads them.

Inside the frozen blocks a state has its channels last: video (B, T, H, W, C), a mel latent (B, T, F, C), a waveform
(B, T, 1, C). A two-dimensional convolution reads the same memory as N images of height H and width W, without a copy
wherever the number of positions is the same. A layout is a function from the shape of a state to that (N, H, W); which
layout is the fastest on a CPU was measured: oneDNN's paths differ by up to four times, and a GPU does not mind.
"""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Layout = Callable[[Sequence[int]], tuple[int, int, int]]
"""From the shape of a state to (N, H, W); N * H * W may exceed the positions of the state, never fall below them."""


def image_layout(shape: Sequence[int]) -> tuple[int, int, int]:
    """Read the last two axes of positions as an image: each frame of a video, or a whole mel latent."""
    return math.prod(shape[:-3]), shape[-3], shape[-2]


def time_by_pixels_layout(shape: Sequence[int]) -> tuple[int, int, int]:
    """Read a video (B, T, H, W, C) as one image a sample: time downwards, all pixels of a frame in a row."""
    return shape[0], shape[1], math.prod(shape[2:-1])


def folded_layout(fold: int, shape: Sequence[int]) -> tuple[int, int, int]:
    """Read a waveform as rows of `fold` samples, so that samples `fold` apart lie one below the other.

    A dilation by `fold` along the waveform is none along the columns, which is several times as fast.
    """
    return shape[0], -(-shape[1] // fold), fold


def rows_layout(shape: Sequence[int]) -> tuple[int, int, int]:
    """Read all positions as rows of up to 64, for kernels of size 1; a single row or column is half as fast."""
    positions = math.prod(shape[:-1])
    width = math.gcd(positions, 64)
    return positions // width, 1, width


def to_images(x: Tensor, layout: Layout) -> Tensor:
    """Return a state (B, ..., C) as images (N, C, H, W); zeros follow each sample where the layout is longer."""
    n, h, w = layout(x.shape)
    missing = n * h * w // len(x) - math.prod(x.shape[1:-1])
    x = F.pad(x.flatten(1, -2), (0, 0, 0, missing)) if missing else x
    return x.reshape(n, h, w, x.shape[-1]).permute(0, 3, 1, 2)


def to_state(images: Tensor, shape: Sequence[int]) -> Tensor:
    """Return images (N, C, H, W) as a state of this shape (B, ..., C), without zeros that `to_images` appended."""
    positions = images.permute(0, 2, 3, 1).reshape(shape[0], -1, shape[-1])
    state: Tensor = positions[:, : math.prod(shape[1:-1])].reshape(tuple(shape))
    return state


def empty_images(sizes: Sequence[int], channels: int, like: Tensor) -> Tensor:
    """Return images of these (N, H, W) with undefined values, for calls that read the shape and strides alone."""
    n, h, w = sizes
    return torch.empty(n, channels, h, w, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)
