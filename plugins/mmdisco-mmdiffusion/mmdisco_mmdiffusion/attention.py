"""Attention of the coupled U-Net: within frames, along time, within audio, and between audio and video.

All heads, frames and windows of a batch go through one fused call; nothing loops over frames.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdisco_mmdiffusion.layers import Norm, Pointwise, named


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Return softmax(q k / sqrt(d)) v for q (..., N, C) and k, v (..., M, C), heads being contiguous channels."""
    batch, shape = q.shape[:-2], q.shape
    q, k, v = (x.reshape(batch.numel(), x.shape[-2], heads, -1).transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(shape)


class SelfAttention(nn.Module):
    """Attention among the tokens (B, N, C) of one sequence, added to them."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = named("GroupNorm", Norm(channels))
        self.qkv = Pointwise(channels, 3 * channels, 1)
        self.proj_out = Pointwise(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tokens with what they attend to added."""
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        mapped: Tensor = x + self.proj_out(attend(q, k, v, self.heads))
        return mapped


class CrossAttention(nn.Module):
    """Attention between video and audio, each frame and its stretch of audio to a window of the other.

    With a window of W frames and a shift S, frame i and chunk i of the audio look at frames or chunks i + S to
    i + S + W - 1, around the end (Ruan et al. 2023, sec. 3.3). Without a window, everything looks at everything.
    """

    def __init__(self, channels: int, head_channels: int, window: int | None) -> None:
        super().__init__()
        if channels % head_channels:
            raise ValueError(f"heads of {head_channels} channels do not divide {channels}")
        self.heads, self.window = channels // head_channels, window
        self.v_norm = named("GroupNorm", Norm(channels))
        self.a_norm = named("GroupNorm", Norm(channels))
        self.v_qkv = Pointwise(channels, 3 * channels, 1)
        self.a_qkv = Pointwise(channels, 3 * channels, 1)
        self.video_proj_out = named("video_conv", Pointwise(channels, channels, 3))
        self.audio_proj_out = named("audio_conv", Pointwise(channels, channels, 1))

    def forward(self, video: Tensor, audio: Tensor, shift: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return video (B, T, H, W, C) and audio (B, L, C), each with what it saw of the other; shift (B,) whole."""
        qv, kv, vv = self.v_qkv(self.v_norm(video).flatten(2, 3)).chunk(3, -1)  # (B, T, H W, C)
        qa, ka, va = self.a_qkv(self.a_norm(audio)).chunk(3, -1)  # (B, L, C)
        if self.window is None or shift is None:
            from_audio = attend(qv.flatten(1, 2), ka, va, self.heads)
            from_video = attend(qa, kv.flatten(1, 2), vv.flatten(1, 2), self.heads)
        else:
            from_audio, from_video = _windowed((qv, kv, vv), (qa, ka, va), shift, self.window, self.heads)
        return video + self.video_proj_out(from_audio.reshape(video.shape)), audio + self.audio_proj_out(from_video)


Heads = tuple[Tensor, Tensor, Tensor]
"""Queries, keys and values."""


def _windowed(video: Heads, audio: Heads, shift: Tensor, window: int, heads: int) -> tuple[Tensor, Tensor]:
    """Return what frames take from the audio, (B, T, H W, C), and what the audio takes from frames, (B, L, C)."""
    (qv, kv, vv), (qa, ka, va) = video, audio
    frames, length = qv.shape[1], qa.shape[1]
    chunk, window = length // frames, min(window, frames)
    first = torch.arange(frames, device=qv.device) + shift[:, None]  # (B, T)
    stretch = (first[..., None] * chunk + torch.arange(window * chunk, device=qv.device)) % length
    around = (first[..., None] + torch.arange(window, device=qv.device)) % frames
    from_audio = attend(qv, _picked(ka, stretch), _picked(va, stretch), heads)
    keys, values = (_picked(x, around).flatten(2, 3) for x in (kv, vv))
    whole = frames * chunk
    from_video = attend(qa[:, :whole].unflatten(1, (frames, chunk)), keys, values, heads).flatten(1, 2)
    # Samples that do not fill a chunk belong to the last one.
    rest = [attend(qa[:, whole:], keys[:, -1], values[:, -1], heads)] if whole < length else []
    return from_audio, torch.cat([from_video, *rest], 1)


def _picked(x: Tensor, index: Tensor) -> Tensor:
    """Return rows of x (B, N, ...) by index (B, ...), each sample its own."""
    rows = torch.arange(len(x), device=x.device).view(-1, *[1] * (index.ndim - 1))
    return x[rows, index]
