"""Layers on states with channels last: video (B, T, H, W, C), audio (B, L, C), tokens (B, N, C).

Channels last, every reshape between frames, pixels and tokens is a view, and convolutions and normalisation run in
their fastest layout. Weights keep the shapes and names of the released checkpoints, so those load as they are.
"""

import math
from collections import OrderedDict
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 32
"""Channel groups of every normalisation."""


def named(name: str, module: nn.Module) -> nn.Sequential:
    """Return a module that calls another one and keeps its weights under a name."""
    return nn.Sequential(OrderedDict([(name, module)]))


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: tuple[int, int], dilation: tuple[int, int] = (1, 1)
) -> Tensor:
    """Return the 2-D convolution (N, H, W, out) of x (N, H, W, in)."""
    y = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=padding, dilation=dilation)
    return y.permute(0, 2, 3, 1).contiguous()


class Pointwise(nn.Module):
    """A convolution of kernel 1 with `ndim` axes in its stored weight: (..., in) to (..., out)."""

    def __init__(self, inner: int, outer: int, ndim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outer, inner, *[1] * ndim))
        self.bias = nn.Parameter(torch.empty(outer))
        _initialise(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the same linear map of every position."""
        return F.linear(x, self.weight.flatten(1), self.bias)


class Norm(nn.GroupNorm):
    """Group normalisation over all positions of (B, ..., C)."""

    def __init__(self, channels: int) -> None:
        super().__init__(GROUPS, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return x normalised, scaled and moved by channel, in the dtype of x."""
        tokens = x.flatten(1, -2)[:, None].permute(0, 3, 1, 2)  # (B, C, 1, N), channels last in memory
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        # Autocast would lift half precision to float32 and back; the kernel sums in float32 anyway.
        with nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False):
            y = F.group_norm(tokens, GROUPS, weight, bias, self.eps)
        return y.permute(0, 2, 3, 1).reshape(x.shape)


class FrameConv(nn.Module):
    """The "2d+1d" convolution of video: 3 x 3 within frames, then 3 along time at every pixel."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__()
        self.video_conv_spatial = nn.Conv2d(inner, outer, 3)
        self.video_conv_temporal = nn.Conv1d(outer, outer, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, H, W, in) to (B, T, H, W, out)."""
        spatial, temporal = self.video_conv_spatial, self.video_conv_temporal
        y = convolve(x.flatten(0, 1), spatial.weight, spatial.bias, (1, 1)).reshape(*x.shape[:4], -1)
        # Time as height and pixels as width: a 3 x 1 kernel, without moving any pixel.
        z = convolve(y.flatten(2, 3), temporal.weight[..., None], temporal.bias, (1, 0))
        return z.reshape(y.shape)


class SoundConv(nn.Conv1d):
    """The convolution of audio: kernel 3, dilated, padded to the same length."""

    def __init__(self, inner: int, outer: int, dilation: int = 1) -> None:
        super().__init__(inner, outer, 3, dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, in) to (B, L, out)."""
        d = self.dilation[0]
        return convolve(x[:, None], self.weight[:, :, None], self.bias, (0, d), (1, d))[:, 0]


class VolumeConv(nn.Conv3d):
    """A 3 x 3 x 3 convolution of video, padded to the same size."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__(inner, outer, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, H, W, in) to (B, T, H, W, out)."""
        y = F.conv3d(x.permute(0, 4, 1, 2, 3), self.weight, self.bias, padding=1)
        return y.permute(0, 2, 3, 4, 1)


def time_features(t: Tensor, width: int) -> Tensor:
    """Return cosines, then sines, of t (B,) at width / 2 frequencies from 1 down to almost 1e-4: (B, width)."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, device=t.device) * (-math.log(10000) / half))
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def halve_video(x: Tensor) -> Tensor:
    """Average 2 x 2 pixels of (B, T, H, W, C)."""
    halved: Tensor = x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean((3, 5))
    return halved


def double_video(x: Tensor) -> Tensor:
    """Repeat every pixel of (B, T, H, W, C) 2 x 2 times."""
    return x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2, -1).flatten(4, 5).flatten(2, 3)


def quarter_audio(x: Tensor) -> Tensor:
    """Average 4 samples of (B, L, C)."""
    quartered: Tensor = x.unflatten(1, (-1, 4)).mean(2)
    return quartered


def quadruple_audio(x: Tensor) -> Tensor:
    """Repeat every sample of (B, L, C) 4 times."""
    return x[:, :, None].expand(-1, -1, 4, -1).flatten(1, 2)


def _initialise(weight: Tensor, bias: Tensor) -> None:
    """Set what torch's own convolutions begin with."""
    bound = 1 / math.sqrt(weight[0].numel())
    nn.init.uniform_(weight, -bound, bound)
    nn.init.uniform_(bias, -bound, bound)
