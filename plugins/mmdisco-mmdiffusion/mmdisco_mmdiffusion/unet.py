"""The coupled U-Net of MM-Diffusion (Ruan et al. 2023, arXiv 2212.09478): two branches that meet in attention.

Its state dict has the keys and shapes of the released checkpoints.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdisco_mmdiffusion.attention import CrossAttention, SelfAttention
from mmdisco_mmdiffusion.layers import (
    FrameConv,
    Norm,
    Pointwise,
    SoundConv,
    VolumeConv,
    double_video,
    halve_video,
    named,
    quadruple_audio,
    quarter_audio,
    time_features,
)

Resample = Literal["down", "up"]
VIDEO: dict[str | None, Callable[[Tensor], Tensor]] = {"down": halve_video, "up": double_video, None: lambda x: x}
AUDIO: dict[str | None, Callable[[Tensor], Tensor]] = {"down": quarter_audio, "up": quadruple_audio, None: lambda x: x}


@dataclass(frozen=True)
class UNetConfig:
    """The sizes of a coupled U-Net; the defaults are those of the released ones, 133,675,524 parameters."""

    channels: int = 128
    multipliers: tuple[int, ...] = (1, 2, 3, 4)
    res_blocks: int = 2
    heads: int = 4
    head_channels: int = 64
    windows: tuple[int, ...] = (1, 4, 8)
    video_channels: int = 3
    audio_channels: int = 1
    dilations: int = 10

    def __post_init__(self) -> None:
        """Require a window for every level below the first, the ones that attend."""
        if len(self.windows) != len(self.multipliers) - 1:
            raise ValueError(f"{len(self.multipliers)} levels need one window less, got {len(self.windows)}")

    @property
    def pixel_multiple(self) -> int:
        """Return what height and width must be multiples of."""
        return int(2 ** (len(self.multipliers) - 1))

    @property
    def sample_multiple(self) -> int:
        """Return what the number of audio samples must be a multiple of."""
        return int(4 ** (len(self.multipliers) - 1))


class ResBlock(nn.Module):
    """A residual block in either branch, modulated by one projection of the noise level; optionally resampling.

    Resampling comes after the first convolution. `attention` counts the heads of self-attention, in video over space
    and then time, and in audio where `audio_attention`.
    """

    def __init__(
        self,
        inner: int,
        outer: int,
        level: int,
        dilation: int,
        resample: Resample | None = None,
        attention: int = 0,
        audio_attention: bool = False,
    ) -> None:
        super().__init__()
        self.resample = resample
        self.video_in_layers = nn.Sequential(named("GroupNorm", Norm(inner)), nn.SiLU(), FrameConv(inner, outer))
        self.audio_in_layers = nn.Sequential(
            named("GroupNorm", Norm(inner)), nn.SiLU(), named("audio_conv", SoundConv(inner, outer, dilation))
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(level, 2 * outer))
        self.video_out_layers = _second_half("video_conv", outer, 3)
        self.audio_out_layers = _second_half("audio_conv", outer, 1)
        self.video_skip_connection = _skip("video_conv", inner, outer, 3)
        self.audio_skip_connection = _skip("audio_conv", inner, outer, 1)
        if attention:
            self.spatial_attention_block = SelfAttention(outer, attention)
            self.temporal_attention_block = SelfAttention(outer, attention)
            if audio_attention:
                self.audio_attention_block = SelfAttention(outer, attention)
        self.attends, self.audio_attention = bool(attention), audio_attention

    def forward(self, video: Tensor, audio: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Map video (B, T, H, W, inner) and audio (B, L, inner) under the embedded noise level (B, level)."""
        scale, shift = self.emb_layers(level).to(video.dtype).chunk(2, 1)
        v, a = VIDEO[self.resample], AUDIO[self.resample]
        inside = _modulated(self.video_out_layers, v(self.video_in_layers(video)), scale, shift)
        video = self.video_skip_connection(v(video)) + inside
        inside = _modulated(self.audio_out_layers, a(self.audio_in_layers(audio)), scale, shift)
        audio = self.audio_skip_connection(a(audio)) + inside
        if self.attends:
            video = _along_time(self.temporal_attention_block, _within_frames(self.spatial_attention_block, video))
        return video, self.audio_attention_block(audio) if self.audio_attention else audio


class Stem(nn.Module):
    """The first convolutions."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.video_conv = FrameConv(config.video_channels, config.channels)
        self.audio_conv = named("audio_conv", SoundConv(config.audio_channels, config.channels))

    def forward(self, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Map both modalities to the first width."""
        return self.video_conv(video), self.audio_conv(audio)


class CoupledUNet(nn.Module):
    """Predicts the noise of video (B, 3, T, H, W) and audio (B, 1, L) together."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        c, width = config, config.channels
        self.time_embed = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.input_blocks, widths, count = _encoder(c)
        self.middle_blocks = _middle(c, count)
        self.output_blocks, width = _decoder(c, widths, count - 1)
        self.video_out = nn.Sequential(
            named("GroupNorm", Norm(width)), nn.SiLU(), named("video_conv", VolumeConv(width, c.video_channels))
        )
        self.audio_out = nn.Sequential(
            named("GroupNorm", Norm(width)), nn.SiLU(), named("audio_conv", SoundConv(width, c.audio_channels))
        )

    @property
    def windows(self) -> list[int]:
        """Return the window, in frames, of every shifted attention in the order in which they are passed."""
        stages = [*self.input_blocks, *self.output_blocks]
        blocks = [block for stage in stages for block in stage if isinstance(block, CrossAttention)]
        return [block.window for block in blocks if block.window is not None]

    def forward(self, video: Tensor, audio: Tensor, t: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
        """Return epsilon of both at whole times t (B,), with a shift in frames (B, len(windows)) for each attention.

        Raises:
            ValueError: sizes that the levels do not divide, too little audio for the frames, or batches that differ.
        """
        _require_fit(self.config, video, audio, t, shifts, len(self.windows))
        level = self.time_embed(time_features(t, self.config.channels))
        drawn = iter(shifts.unbind(1))
        v, a = video.permute(0, 2, 3, 4, 1).contiguous(), audio.transpose(1, 2).contiguous()
        kept: list[tuple[Tensor, Tensor]] = []
        for stage in self.input_blocks:
            v, a = _through(stage, v, a, level, drawn)
            kept.append((v, a))
        v, a = _through(self.middle_blocks, v, a, level, drawn)
        for stage in self.output_blocks:
            skip = kept.pop()
            v, a = torch.cat([v, skip[0]], -1), torch.cat([a, skip[1]], -1)
            v, a = _through(stage, v, a, level, drawn)
        return self.video_out(v).permute(0, 4, 1, 2, 3), self.audio_out(a).transpose(1, 2)


def _encoder(c: UNetConfig) -> tuple[nn.ModuleList, list[int], int]:
    """Return the stages down, the width after each, and the number of the next block for its dilation."""
    stages: list[nn.Module] = [nn.ModuleList([Stem(c)])]
    width, count, widths = c.channels, 1, [c.channels]
    for depth, multiplier in enumerate(c.multipliers):
        for _ in range(c.res_blocks):
            outer = multiplier * c.channels
            stages.append(nn.ModuleList(_blocks(c, width, outer, depth, count)))
            width, count = outer, count + 1
            widths.append(width)
        if depth < len(c.multipliers) - 1:
            stages.append(nn.ModuleList([ResBlock(width, width, c.channels, _dilation(c, count), "down")]))
            count += 1
            widths.append(width)
    return nn.ModuleList(stages), widths, count


def _middle(c: UNetConfig, count: int) -> nn.ModuleList:
    width = c.multipliers[-1] * c.channels
    first, last = (
        ResBlock(width, width, c.channels, _dilation(c, count), attention=c.heads, audio_attention=True)
        for _ in range(2)
    )
    return nn.ModuleList([first, CrossAttention(width, c.head_channels, None), last])


def _decoder(c: UNetConfig, widths: list[int], count: int) -> tuple[nn.ModuleList, int]:
    """Return the stages up, which take the widths of the encoder from the end, and the width after the last."""
    stages, width, kept = [], widths[-1], list(widths)
    for depth in reversed(range(len(c.multipliers))):
        for i in range(c.res_blocks + 1):
            outer = c.multipliers[depth] * c.channels
            blocks = _blocks(c, width + kept.pop(), outer, depth, count)
            width, count = outer, count - 1
            if depth and i == c.res_blocks:
                blocks.append(ResBlock(width, width, c.channels, _dilation(c, count), "up"))
            stages.append(nn.ModuleList(blocks))
    return nn.ModuleList(stages), width


def _blocks(c: UNetConfig, inner: int, outer: int, depth: int, count: int) -> list[nn.Module]:
    attends = depth > 0
    block = ResBlock(inner, outer, c.channels, _dilation(c, count), attention=c.heads if attends else 0)
    return [block, CrossAttention(outer, c.head_channels, c.windows[depth - 1])] if attends else [block]


def _dilation(c: UNetConfig, count: int) -> int:
    """Return the audio dilation of the block of this number: 2, 4, ..., 512, 1, 2, ..."""
    return int(2 ** (count % c.dilations))


def _second_half(name: str, width: int, ndim: int) -> nn.Sequential:
    # The third place is a dropout's in the checkpoints, which has no weights.
    return nn.Sequential(
        named("GroupNorm", Norm(width)), nn.SiLU(), nn.Identity(), named(name, Pointwise(width, width, ndim))
    )


def _skip(name: str, inner: int, outer: int, ndim: int) -> nn.Module:
    return nn.Identity() if inner == outer else named(name, Pointwise(inner, outer, ndim))


def _modulated(layers: nn.Sequential, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return layers 1 to 3 of the first one's output, scaled and shifted by channel."""
    ones = [1] * (x.ndim - 2)
    scale, shift = (value.view(len(x), *ones, -1) for value in (scale, shift))
    hidden = F.silu(torch.addcmul(shift, layers[0](x), 1 + scale))
    mapped: Tensor = layers[3](hidden)
    return mapped


def _within_frames(attention: nn.Module, x: Tensor) -> Tensor:
    tokens: Tensor = attention(x.flatten(0, 1).flatten(1, 2))
    return tokens.reshape(x.shape)


def _along_time(attention: nn.Module, x: Tensor) -> Tensor:
    pixels = x.permute(0, 2, 3, 1, 4)
    tokens: Tensor = attention(pixels.flatten(0, 2).contiguous())
    return tokens.reshape(pixels.shape).permute(0, 3, 1, 2, 4).contiguous()


def _through(
    stage: nn.Module, video: Tensor, audio: Tensor, level: Tensor, drawn: Iterator[Tensor]
) -> tuple[Tensor, Tensor]:
    for block in stage.children():
        if isinstance(block, CrossAttention):
            video, audio = block(video, audio, None if block.window is None else next(drawn))
        elif isinstance(block, ResBlock):
            video, audio = block(video, audio, level)
        else:
            video, audio = block(video, audio)
    return video, audio


def _require_fit(c: UNetConfig, video: Tensor, audio: Tensor, t: Tensor, shifts: Tensor, count: int) -> None:
    batch, (frames, height, width), length = len(video), video.shape[2:], audio.shape[2]
    if len(audio) != batch or t.shape != (batch,) or shifts.shape != (batch, count):
        sizes = f"video {batch}, audio {len(audio)}, t {tuple(t.shape)}, shifts {tuple(shifts.shape)}"
        raise ValueError(f"batches differ: {sizes}")
    if height % c.pixel_multiple or width % c.pixel_multiple or length % c.sample_multiple:
        raise ValueError(
            f"{height} x {width} pixels and {length} samples are not multiples of "
            f"{c.pixel_multiple} and {c.sample_multiple}"
        )
    if length < c.sample_multiple * frames:
        raise ValueError(
            f"{length} samples of audio are too few for {frames} frames: {c.sample_multiple} each at least"
        )
