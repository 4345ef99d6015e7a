"""The linear maps of the frozen blocks, each with its forward and its backward: convolutions and average pooling.

The gradient by the input of a linear map y = A x + b is A^T dy: it takes the weights alone, so no map keeps anything of
its forward but the shape of its input, which the caller passes back. Shapes of states: see `frozen_layouts`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdisco_cli.paper.blocks import AudioConv, VideoConv
from mmdisco_cli.paper.frozen_layouts import (
    Layout,
    empty_images,
    folded_layout,
    image_layout,
    rows_layout,
    time_by_pixels_layout,
    to_images,
    to_state,
)

LARGEST_FAST_DILATION = 2
"""A convolution of a waveform dilated by more than this is folded."""


@dataclass(frozen=True)
class Convolution:
    """A convolution of stride 1 of states (B, ..., C), read as images of `layout`; weight (out, C, height, width)."""

    weight: Tensor
    bias: Tensor | None
    layout: Layout
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)

    def forward(self, x: Tensor, dtype: torch.dtype = torch.float32, biased: bool = True) -> Tensor:
        """Map (B, ..., C) to (B, ..., out), in `dtype` where the kernel is large enough for low precision."""
        dtype = self._working_dtype(dtype)
        weight, bias = _cast(self.weight, self.bias if biased else None, dtype)
        y = F.conv2d(to_images(x.to(dtype), self.layout), weight, bias, 1, self.padding, self.dilation)
        return to_state(y, (*x.shape[:-1], len(weight)))

    def backward(self, g: Tensor, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the gradient by the input, whose shape is given, from the gradient by the output."""
        dtype = self._working_dtype(dtype)
        weight, _ = _cast(self.weight, None, dtype)
        images, sizes = to_images(g.to(dtype), self.layout), self.layout(shape)
        return to_state(_convolution_backward(images, weight, sizes, [1, 1], self.padding, self.dilation), shape)

    def _working_dtype(self, low_precision: torch.dtype) -> torch.dtype:
        """Return low precision for kernels of two dimensions alone.

        They are two thirds of all operations, and add the least rounding for the time that they save.
        """
        return low_precision if min(self.weight.shape[2:]) > 1 else torch.float32


@dataclass(frozen=True)
class PooledConvolution:
    """A 3x3 convolution of frames with padding 1, then the mean of each 2x2 pixels, in a quarter of the operations.

    Convolution and mean are both linear and can be exchanged: with s = the mean of each 2x2 pixels at stride 1, zeros
    around the frame, mean(conv(x))[p] = sum_k weight[k] s[2 p + k], a convolution of s of stride 2 without padding.
    """

    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor, dtype: torch.dtype = torch.float32, biased: bool = True) -> Tensor:
        """Map (B, T, H, W, C) to (B, T, H // 2, W // 2, out)."""
        # oneDNN's bfloat16 convolution of stride 2 gives undefined values where the output is one pixel wide.
        dtype = dtype if x.shape[3] // 2 > 1 else torch.float32
        weight, bias = _cast(self.weight, self.bias if biased else None, dtype)
        smooth = F.avg_pool2d(_frames(x.to(dtype)), 2, 1, 1)
        y = F.conv2d(smooth, weight, bias, 2)
        return to_state(y, (*x.shape[:2], *y.shape[2:], len(weight)))

    def backward(self, g: Tensor, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the gradient by the input, whose shape is given, from the gradient by the output."""
        weight, _ = _cast(self.weight, None, dtype)
        frames, height, width = shape[0] * shape[1], *shape[2:4]
        smooth_sizes = (frames, height + 1, width + 1)
        smooth = _convolution_backward(_frames(g.to(dtype)), weight, smooth_sizes, [2, 2], (0, 0), (1, 1))
        like = empty_images((frames, height, width), shape[-1], smooth)
        return to_state(_pool_backward(smooth, like, (2, 2), (1, 1), (1, 1)), shape)


@dataclass(frozen=True)
class Pool:
    """The mean of neighbouring pixels (B, T, H, W, C), frequencies (B, T, F, C) or samples (B, T, 1, C)."""

    kernel: tuple[int, int]

    def forward(self, x: Tensor, dtype: torch.dtype = torch.float32, biased: bool = True) -> Tensor:
        """Map (B, T, ..., C) to fewer positions, in the dtype of x."""
        pooled = F.avg_pool2d(_images(x), self.kernel)
        return to_state(pooled, (*x.shape[:-3], *pooled.shape[2:], x.shape[-1]))

    def backward(self, g: Tensor, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the gradient by the input, whose shape is given: each position its share of the mean it is in."""
        like = empty_images(image_layout(shape), shape[-1], g)
        return to_state(_pool_backward(_images(g), like, self.kernel, self.kernel, (0, 0)), shape)


LinearMap = Convolution | PooledConvolution | Pool


def first_convolution(module: nn.Module, pooling: tuple[int, ...] | None) -> list[LinearMap]:
    """Return the maps of the stem, or of a block's first convolution (`VideoConv`, `AudioConv`) and its pooling."""
    if isinstance(module, VideoConv):
        return _video_convolution(module, pooled=pooling is not None)
    assert isinstance(module, AudioConv)
    return [_audio_convolution(module), *([pool(pooling)] if pooling else [])]


def point_convolution(module: nn.Module) -> Convolution:
    """Return a convolution of kernel 1 (`VideoPoint` or `AudioConv`), which is a matrix product of the channels."""
    (own,) = module.children()
    assert isinstance(own, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    return Convolution(own.weight.flatten(1)[..., None, None], own.bias, rows_layout)


def pool(kernel: tuple[int, ...]) -> Pool:
    """Return the mean over neighbours on the first axis or two that a modality is pooled on."""
    return Pool((kernel[0], kernel[1] if len(kernel) == 2 else 1))


def _video_convolution(module: VideoConv, pooled: bool) -> list[LinearMap]:
    """Return the convolution of every frame, pooled or not, then the one through time of every pixel.

    Pooling comes before time, though the network pools after it: one mixes pixels, the other frames, so they commute.
    """
    space, time = module.video_conv_spatial, module.video_conv_temporal
    through_time = Convolution(time.weight[..., None], time.bias, time_by_pixels_layout, (1, 0))
    if pooled:
        return [PooledConvolution(space.weight, space.bias), through_time]
    return [Convolution(space.weight, space.bias, image_layout, (1, 1)), through_time]


def _audio_convolution(module: AudioConv) -> Convolution:
    """Return the dilated convolution of a mel latent, or of a waveform, folded where the dilation is large."""
    own, dilation = module.audio_conv, module.audio_conv.dilation
    if len(dilation) == 2:
        return Convolution(own.weight, own.bias, image_layout, dilation, dilation)
    fold = dilation[0] if dilation[0] > LARGEST_FAST_DILATION else 1
    rows = dilation[0] // fold
    return Convolution(own.weight[..., None], own.bias, partial(folded_layout, fold), (rows, 0), (rows, 1))


def _images(x: Tensor) -> Tensor:
    """Return a state (B, ..., H, W, C) as images (N, C, H, W) of its last two axes of positions."""
    return x.reshape(-1, *x.shape[-3:]).permute(0, 3, 1, 2)


def _frames(x: Tensor) -> Tensor:
    """Return a video (B, T, H, W, C) as images (B * T, C, H, W) in its own memory."""
    return x.flatten(0, 1).permute(0, 3, 1, 2)


def _cast(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    return weight.to(dtype, memory_format=torch.channels_last), None if bias is None else bias.to(dtype)


def _convolution_backward(
    g: Tensor, weight: Tensor, sizes: Sequence[int], stride: list[int], padding: Sequence[int], dilation: Sequence[int]
) -> Tensor:
    """Return the gradient by the input of a convolution, images of sizes (N, H, W), from that by its output."""
    like = empty_images(sizes, weight.shape[1], g)
    settings = (stride, list(padding), list(dilation), False, [0, 0], 1)
    by_input, by_weight, by_bias = True, False, False
    found: Tensor = torch.ops.aten.convolution_backward(
        g, like, weight, None, *settings, (by_input, by_weight, by_bias)
    )[0]
    return found


def _pool_backward(
    g: Tensor, like: Tensor, kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> Tensor:
    """Return the gradient by the input, shaped like `like`, of an average pooling that counts its padding."""
    ceil_mode, count_include_pad, divisor = False, True, None
    found: Tensor = torch.ops.aten.avg_pool2d_backward(
        g, like, kernel, stride, padding, ceil_mode, count_include_pad, divisor
    )
    return found
