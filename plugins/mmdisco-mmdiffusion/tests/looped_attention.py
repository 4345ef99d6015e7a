"""Windowed attention between video and audio, frame by frame in plain loops: slow, and hard to get wrong."""

import math

import torch
from torch import Tensor

from mmdisco_mmdiffusion.attention import CrossAttention


def looped(block: CrossAttention, video: Tensor, audio: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the block makes of video (B, T, H, W, C) and audio (B, L, C) with a shift (B,) in frames."""
    assert block.window is not None
    (batch, frames, *_, channels), length = video.shape, audio.shape[1]
    chunk, window = length // frames, min(block.window, frames)
    v = block.v_qkv(block.v_norm(video).flatten(2, 3))
    a = block.a_qkv(block.a_norm(audio))
    seen, heard = torch.zeros_like(video).flatten(2, 3), torch.zeros_like(audio)
    for b in range(batch):
        for i in range(frames):
            first = i + int(shift[b])
            samples = [(first * chunk + k) % length for k in range(window * chunk)]
            seen[b, i] = plain(v[b, i], a[b, samples], block.heads, channels)
            around = torch.cat([v[b, (first + k) % frames] for k in range(window)])
            end = length if i == frames - 1 else (i + 1) * chunk
            heard[b, i * chunk : end] = plain(a[b, i * chunk : end], around, block.heads, channels)
    video = video + block.video_proj_out(seen).reshape(video.shape)
    return video, audio + block.audio_proj_out(heard)


def plain(queries: Tensor, keys: Tensor, heads: int, channels: int) -> Tensor:
    """Return attention of one stretch, head by head, from projections (N, 3 C) and (M, 3 C)."""
    size = channels // heads
    parts = []
    for h in range(heads):
        q = queries[:, h * size : (h + 1) * size]
        k = keys[:, channels + h * size : channels + (h + 1) * size]
        v = keys[:, 2 * channels + h * size : 2 * channels + (h + 1) * size]
        parts.append(torch.softmax(q @ k.T / math.sqrt(size), 1) @ v)
    return torch.cat(parts, 1)
