"""The convolutions and pools of the paper's discriminators, each as the planes in which it runs fastest, and back.

States are (B, T, H, W, C), (B, T, F, C) or (B, T, 1, C), weights frozen. Nothing is kept: the gradient of a linear map
takes its weights alone. Measured on CPUs, where the order of axes decides between paths of oneDNN that differ by up to
four times; a GPU does not mind.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdisco_cli.paper.blocks import AudioConv, VideoConv

WIDE = 2
"""The greatest dilation that is no slower than none."""
_POOLED_BACK = torch.ops.aten.avg_pool2d_backward


@dataclass(frozen=True)
class Convolution:
    """A convolution of states (B, ..., C) as planes (N, H, W, C), with weights (out, C, height, width).

    `planes` tells N, H, W of a state's shape; where they hold more positions, zeros follow each sample.
    """

    weight: Tensor
    bias: Tensor | None
    planes: Callable[[Sequence[int]], tuple[int, int, int]]
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    def image(self, x: Tensor, dtype: torch.dtype = torch.float32, biased: bool = True) -> Tensor:
        """Map (B, ..., C) to (B, ..., out)."""
        dtype = self._own(dtype)
        weight, bias = _cast(self.weight, self.bias if biased else None, dtype)
        y = F.conv2d(self._laid(x.to(dtype)), weight, bias, 1, self.padding, self.dilation)
        return _as_state(y, (*x.shape[:-1], len(weight)))

    def back(self, g: Tensor, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the gradient by a state of this shape of that by its image."""
        dtype = self._own(dtype)
        weight, _ = _cast(self.weight, None, dtype)
        how = ([1, 1], self.padding, self.dilation)
        return _as_state(_convolved_back(self._laid(g.to(dtype)), weight, self.planes(shape), *how), shape)

    def _own(self, rough: torch.dtype) -> torch.dtype:
        """Return the dtype to work in: only what is most of the work, and rounds least for it, is ever rough."""
        return rough if min(self.weight.shape[2:]) > 1 else torch.float32

    def _laid(self, x: Tensor) -> Tensor:
        """Return planes (N, C, H, W) in the memory of a state, where that is long enough."""
        n, h, w = self.planes(x.shape)
        more = n * h * w // len(x) - math.prod(x.shape[1:-1])
        x = F.pad(x.flatten(1, -2), (0, 0, 0, more)) if more else x
        return x.reshape(n, h, w, x.shape[-1]).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Halved:
    """A 3x3 convolution of frames and the mean of each 2x2 of its pixels, as one of stride 2 on smoothed frames."""

    weight: Tensor
    bias: Tensor | None

    def image(self, x: Tensor, dtype: torch.dtype = torch.float32, biased: bool = True) -> Tensor:
        """Map (B, T, H, W, C) to (B, T, H // 2, W // 2, out)."""
        weight, bias = _cast(self.weight, self.bias if biased else None, dtype)
        smooth = F.avg_pool2d(x.to(dtype).flatten(0, 1).permute(0, 3, 1, 2), 2, 1, 1)
        y = F.conv2d(smooth, weight, bias, 2)
        return _as_state(y, (*x.shape[:2], *y.shape[2:], len(weight)))

    def back(self, g: Tensor, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the gradient by a state of this shape of that by its image."""
        weight, _ = _cast(self.weight, None, dtype)
        frames, height, width = shape[0] * shape[1], *shape[2:4]
        g = g.to(dtype).flatten(0, 1).permute(0, 3, 1, 2)
        smooth = _convolved_back(g, weight, (frames, height + 1, width + 1), [2, 2], (0, 0), (1, 1))
        like = _unwritten((frames, height, width), shape[-1], g)
        return _as_state(_POOLED_BACK(smooth, like, [2, 2], [1, 1], [1, 1], False, True, None), shape)


@dataclass(frozen=True)
class Pool:
    """The mean of neighbouring pixels (B, T, H, W, C), frequencies (B, T, F, C) or samples (B, T, 1, C)."""

    kernel: tuple[int, int]

    def image(self, x: Tensor, dtype: torch.dtype = torch.float32, biased: bool = True) -> Tensor:
        """Map (B, T, ..., C) to fewer."""
        pooled = F.avg_pool2d(_as_planes(x), self.kernel)
        return _as_state(pooled, (*x.shape[:-3], *pooled.shape[2:], x.shape[-1]))

    def back(self, g: Tensor, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the gradient by a state of this shape of that by its image."""
        like = _unwritten((math.prod(shape[:-3]), *shape[-3:-1]), shape[-1], g)
        return _as_state(_POOLED_BACK(_as_planes(g), like, self.kernel, self.kernel, [0, 0], False, True, None), shape)


Step = Convolution | Halved | Pool


def convolutions(module: nn.Module, pooled: tuple[int, ...] | None) -> list[Step]:
    """Return what the first convolution of a block or the stem is made of, and the pooling behind it."""
    if isinstance(module, VideoConv):
        frames, pixels = module.video_conv_spatial, module.video_conv_temporal
        time = Convolution(_four(pixels.weight), pixels.bias, _through_time, (1, 0))
        if pooled:
            return [Halved(frames.weight, frames.bias), time]
        return [Convolution(frames.weight, frames.bias, _frames, (1, 1)), time]
    assert isinstance(module, AudioConv)
    own, dilation = module.audio_conv, module.audio_conv.dilation
    after = [pool(pooled)] if pooled else []
    if len(dilation) == 2:
        return [Convolution(own.weight, own.bias, _frames, dilation, dilation), *after]
    # Every d-th sample one below the other: then a wide dilation is none, which is several times as fast.
    fold = dilation[0] if dilation[0] > WIDE else 1
    rows = dilation[0] // fold
    return [Convolution(_four(own.weight), own.bias, partial(_folded, fold), (rows, 0), (rows, 1)), *after]


def point(module: nn.Module) -> Convolution:
    """Return a convolution of kernel 1."""
    (own,) = module.children()
    assert isinstance(own, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    return Convolution(own.weight.flatten(1)[..., None, None], own.bias, _rows_of_64)


def pool(kernel: tuple[int, ...]) -> Pool:
    """Return the mean over neighbours on the first axis or two that a modality is pooled on."""
    return Pool((kernel[0], kernel[1] if len(kernel) == 2 else 1))


def _four(weight: Tensor) -> Tensor:
    """Return weights (out, in, steps) as (out, in, steps, 1)."""
    return weight[..., None]


def _frames(shape: Sequence[int]) -> tuple[int, int, int]:
    return math.prod(shape[:-3]), shape[-3], shape[-2]


def _through_time(shape: Sequence[int]) -> tuple[int, int, int]:
    return shape[0], shape[1], math.prod(shape[2:-1])


def _folded(by: int, shape: Sequence[int]) -> tuple[int, int, int]:
    return shape[0], -(-shape[1] // by), by


def _rows_of_64(shape: Sequence[int]) -> tuple[int, int, int]:
    # One row of everything, or one column, takes a path of half the speed.
    positions = math.prod(shape[:-1])
    width = math.gcd(positions, 64)
    return positions // width, 1, width


def _as_state(planes: Tensor, shape: Sequence[int]) -> Tensor:
    """Return planes (N, C, H, W) as a state of this shape, without what was added behind its samples."""
    rows = planes.permute(0, 2, 3, 1).reshape(shape[0], -1, shape[-1])
    state: Tensor = rows[:, : math.prod(shape[1:-1])].reshape(tuple(shape))
    return state


def _as_planes(x: Tensor) -> Tensor:
    return x.reshape(-1, *x.shape[-3:]).permute(0, 3, 1, 2)


def _cast(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    return weight.to(dtype, memory_format=torch.channels_last), None if bias is None else bias.to(dtype)


def _unwritten(planes: Sequence[int], channels: int, like: Tensor) -> Tensor:
    """Return planes of whatever numbers, where only shape and order of axes will be read."""
    n, h, w = planes
    return torch.empty(n, channels, h, w, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def _convolved_back(
    g: Tensor, weight: Tensor, planes: Sequence[int], stride: list[int], padding: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """Return the gradient by the input, whose planes are N, H, W, of one by a convolution."""
    like = _unwritten(planes, weight.shape[1], g)
    how = (stride, list(padding), list(dilation), False, [0, 0], 1)
    found: Tensor = torch.ops.aten.convolution_backward(g, like, weight, None, *how, (True, False, False))[0]
    return found
