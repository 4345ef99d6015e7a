"""The residual blocks of the paper's discriminators (MMDisCo, arXiv 2405.17842), one branch a modality.

Attributes are named as the tensors of the released files, so that a state dict has the authors' own names. Video is
(B, C, T, H, W); audio (B, C, T) as a waveform, or (B, C, T, F) as a mel latent. These modules train; where the weights
are frozen, `frozen_blocks` computes the same function.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 32
VIDEO_POOL = (2, 2)
AUDIO_POOL = {1: (4,), 2: (1, 2)}
"""By the number of audio axes: a waveform is pooled in time, a mel latent in frequency alone."""


class Norm(nn.Module):
    """GroupNorm over 32 groups, in float32."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.GroupNorm = nn.GroupNorm(GROUPS, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...) over each group and all positions."""
        return normalised(x, self.GroupNorm.weight, self.GroupNorm.bias)


def normalised(x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """Return x (B, C, ...) normalised by groups in float32, in its own dtype."""
    scale, shift = (None if p is None else p.float() for p in (weight, bias))
    return F.group_norm(x.float(), GROUPS, scale, shift).to(x.dtype)


class VideoConv(nn.Module):
    """A 3x3 convolution of every frame, then one over three frames of every pixel."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.video_conv_spatial = nn.Conv2d(channels, out, 3, padding=1)
        self.video_conv_temporal = nn.Conv1d(out, out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to (B, out, T, H, W), both convolutions without a copy into another order of axes."""
        space, time = self.video_conv_spatial, self.video_conv_temporal
        x = F.conv3d(x, space.weight[:, :, None], space.bias, padding=(0, 1, 1))
        mixed = F.conv2d(x.flatten(3), time.weight[..., None], time.bias, padding=(1, 0))
        return mixed.reshape(x.shape)


class VideoPoint(nn.Module):
    """A convolution of kernel 1 of a video."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.video_conv = nn.Conv3d(channels, out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T, H, W) to (B, out, T, H, W)."""
        mapped: Tensor = self.video_conv(x)
        return mapped


class AudioConv(nn.Module):
    """A dilated convolution of a waveform (one axis) or of a mel latent (two)."""

    def __init__(self, channels: int, out: int, axes: int, kernel: int = 3, dilation: int = 1) -> None:
        super().__init__()
        convolution = nn.Conv1d if axes == 1 else nn.Conv2d
        self.audio_conv = convolution(channels, out, kernel, padding=dilation * (kernel // 2), dilation=dilation)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, ...) to (B, out, ...)."""
        mapped: Tensor = self.audio_conv(x)
        return mapped


class Stem(nn.Module):
    """The first convolution of each modality, never dilated."""

    def __init__(self, video: int, audio: int, axes: int, out: int) -> None:
        super().__init__()
        self.video_conv = VideoConv(video, out)
        self.audio_conv = AudioConv(audio, out, axes)

    def forward(self, modality: str, x: Tensor, embedding: Tensor) -> Tensor:
        """Map one modality's (B, C, ...) to (B, out, ...); the embedding is not used."""
        mapped: Tensor = self.get_submodule(f"{modality}_conv")(x)
        return mapped


class Modulation(nn.Module):
    """Normalise by groups, then scale and shift by a projection of the embedding."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.projection = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * channels))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Map (B, C, ...) under an embedding (B, width) to the same shape."""
        scale, shift = self.projection(embedding)[(..., *(None,) * (x.ndim - 2))].chunk(2, dim=1)
        modulated: Tensor = normalised(x) * (1 + scale) + shift
        return modulated


class ResidualBlock(nn.Module):
    """One residual block of each modality, independent of each other; `down` pools after the first convolution.

    x -> Norm -> SiLU -> convolution [-> pool] -> Modulation -> SiLU -> convolution of kernel 1 -> + skip([pool] x).
    """

    def __init__(self, width: int, channels: int, out: int, axes: int, dilation: int, down: bool = False) -> None:
        super().__init__()
        self.pools = {"video": VIDEO_POOL, "audio": AUDIO_POOL[axes]} if down else {}
        first = {"video": VideoConv(channels, out), "audio": AudioConv(channels, out, axes, dilation=dilation)}
        for modality, convolution in first.items():
            self.add_module(f"{modality}_in_layers", nn.Sequential(Norm(channels), nn.SiLU(), convolution))
            last = _point(modality, out, out, axes)
            for parameter in last.parameters():
                nn.init.zeros_(parameter)
            layers = nn.ModuleList([Modulation(width, out), nn.SiLU(), nn.Identity(), last])
            self.add_module(f"{modality}_out_layers", layers)
            if channels != out:
                self.add_module(f"{modality}_skip_connection", _point(modality, channels, out, axes))

    def forward(self, modality: str, x: Tensor, embedding: Tensor) -> Tensor:
        """Map one modality's (B, C, ...) under an embedding (B, width) to (B, out, ...)."""
        h = self._pooled(modality, self.get_submodule(f"{modality}_in_layers")(x))
        modulate, *rest = self.get_submodule(f"{modality}_out_layers").children()
        h = modulate(h, embedding)
        for layer in rest:
            h = layer(h)
        skip = dict(self.named_children()).get(f"{modality}_skip_connection", nn.Identity())
        mapped: Tensor = skip(self._pooled(modality, x)) + h
        return mapped

    def _pooled(self, modality: str, x: Tensor) -> Tensor:
        kernel = self.pools.get(modality)
        if kernel is None:
            return x
        if modality == "video":  # frame by frame: avg_pool3d has no bfloat16
            frames: Tensor = F.avg_pool2d(x.flatten(1, 2), kernel).unflatten(1, x.shape[1:3])
            return frames
        return F.avg_pool1d(x, kernel) if len(kernel) == 1 else F.avg_pool2d(x, kernel)


def _point(modality: str, channels: int, out: int, axes: int) -> nn.Module:
    """Return a convolution of kernel 1."""
    return VideoPoint(channels, out) if modality == "video" else AudioConv(channels, out, axes, kernel=1)


class TimeEmbedding(nn.Module):
    """Embed whole training times (B,) as (B, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.projection = _TimeLayers(width)

    def forward(self, t: Tensor) -> Tensor:
        """Return the embedding (B, width)."""
        embedded: Tensor = self.projection(t)
        return embedded


class _TimeLayers(nn.Module):
    """Sines, then cosines, then a two-layer network."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, t: Tensor) -> Tensor:
        """Return the embedding (B, width)."""
        half = self.linear_1.in_features // 2
        # The last frequency is 1e-4 exactly: the divisor is half - 1.
        steps = torch.arange(half, dtype=torch.float32, device=t.device) / (half - 1)
        angles = t.float()[:, None] * torch.exp(-math.log(10_000) * steps)
        features = torch.cat([angles.sin(), angles.cos()], 1).to(self.linear_1.weight.dtype)
        embedded: Tensor = self.linear_2(F.silu(self.linear_1(features)))
        return embedded
