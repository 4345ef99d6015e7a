"""The super-resolution network of MM-Diffusion: the image U-Net of guided-diffusion (Dhariwal & Nichol 2021).

Its state dict has the keys and shapes of the released checkpoint. Images are (N, H, W, C) inside.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdisco_mmdiffusion.attention import attend
from mmdisco_mmdiffusion.layers import Norm, Pointwise, convolve, time_features

FACTOR = 4
"""How much larger frames get."""
TIME_WIDTH = 4
"""Width of the embedded noise level, in channels of the first level."""


@dataclass(frozen=True)
class EnlargerConfig:
    """The sizes of a super-resolution network; the defaults are those of the released one, 311,027,910 parameters."""

    channels: int = 192
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    res_blocks: int = 2
    heads: int = 4
    attention: tuple[int, ...] = (3, 4, 5)
    image_channels: int = 3

    @property
    def pixel_multiple(self) -> int:
        """Return what the height and width of its output must be multiples of."""
        return int(2 ** (len(self.multipliers) - 1))


class ImageConv(nn.Conv2d):
    """A 3 x 3 convolution of (N, H, W, C), padded to the same size."""

    def __init__(self, inner: int, outer: int) -> None:
        super().__init__(inner, outer, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, H, W, in) to (N, H, W, out)."""
        return convolve(x, self.weight, self.bias, (1, 1))


class ImageBlock(nn.Module):
    """A residual block modulated by the noise level; resampling comes before its first convolution."""

    def __init__(self, inner: int, outer: int, level: int, resample: Literal["down", "up"] | None = None) -> None:
        super().__init__()
        self.resample = resample
        self.in_layers = nn.Sequential(Norm(inner), nn.SiLU(), ImageConv(inner, outer))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(level, 2 * outer))
        # The third place is a dropout's in the checkpoint, which has no weights.
        self.out_layers = nn.Sequential(Norm(outer), nn.SiLU(), nn.Identity(), ImageConv(outer, outer))
        self.skip_connection = nn.Identity() if inner == outer else Pointwise(inner, outer, 2)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """Map (N, H, W, inner) under the embedded noise level (N, level)."""
        h = self.in_layers[2](self._resampled(F.silu(self.in_layers[0](x))))
        scale, shift = self.emb_layers(level).to(h.dtype)[:, None, None].chunk(2, -1)
        h = self.out_layers[3](F.silu(torch.addcmul(shift, self.out_layers[0](h), 1 + scale)))
        mapped: Tensor = self.skip_connection(self._resampled(x)) + h
        return mapped

    def _resampled(self, x: Tensor) -> Tensor:
        if self.resample == "down":
            halved: Tensor = x.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).mean((2, 4))
            return halved
        if self.resample == "up":
            return x[:, :, None, :, None].expand(-1, -1, 2, -1, 2, -1).flatten(3, 4).flatten(1, 2)
        return x


class ImageAttention(nn.Module):
    """Attention among all pixels; of its projections each head's q, k and v lie together."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = Norm(channels)
        self.qkv = Pointwise(channels, 3 * channels, 1)
        self.proj_out = Pointwise(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, H, W, C) with what each pixel attends to added."""
        together = self.qkv(self.norm(x).flatten(1, 2)).unflatten(-1, (self.heads, 3, -1))
        q, k, v = (part.flatten(-2) for part in together.unbind(-2))
        mapped: Tensor = x + self.proj_out(attend(q, k, v, self.heads)).reshape(x.shape)
        return mapped


class Enlarger(nn.Module):
    """Predicts noise (and a variance, unused) of large frames from them and their enlarged originals."""

    def __init__(self, config: EnlargerConfig) -> None:
        super().__init__()
        self.config = config
        c, width, level = config, config.channels, TIME_WIDTH * config.channels
        self.time_embed = nn.Sequential(nn.Linear(width, level), nn.SiLU(), nn.Linear(level, level))
        self.input_blocks, widths = _encoder(c, level)
        deep = widths[-1]
        self.middle_block = nn.ModuleList(
            [ImageBlock(deep, deep, level), ImageAttention(deep, c.heads), ImageBlock(deep, deep, level)]
        )
        self.output_blocks, width = _decoder(c, level, widths)
        self.out = nn.Sequential(Norm(width), nn.SiLU(), ImageConv(width, 2 * c.image_channels))

    def forward(self, x: Tensor, low: Tensor, t: Tensor) -> Tensor:
        """Return epsilon of noisy frames x (N, 3, H, W) at whole times t (N,), given their originals, enlarged.

        Raises:
            ValueError: sizes that the levels do not divide.
        """
        multiple = self.config.pixel_multiple
        if x.shape[-1] % multiple or x.shape[-2] % multiple:
            raise ValueError(f"{x.shape[-2]} x {x.shape[-1]} pixels are not multiples of {multiple}")
        level = self.time_embed(time_features(t, self.config.channels))
        h = torch.cat([x, low], 1).permute(0, 2, 3, 1).contiguous()
        kept: list[Tensor] = []
        for stage in self.input_blocks:
            h = _through(stage, h, level)
            kept.append(h)
        h = _through(self.middle_block, h, level)
        for stage in self.output_blocks:
            h = _through(stage, torch.cat([h, kept.pop()], -1), level)
        epsilon: Tensor = self.out(h).permute(0, 3, 1, 2)[:, : self.config.image_channels]
        return epsilon


def _encoder(c: EnlargerConfig, level: int) -> tuple[nn.ModuleList, list[int]]:
    """Return the stages down and the width after each."""
    stages: list[nn.Module] = [nn.ModuleList([ImageConv(2 * c.image_channels, c.channels)])]
    widths = [c.channels]
    for depth, multiplier in enumerate(c.multipliers):
        for _ in range(c.res_blocks):
            outer = multiplier * c.channels
            stages.append(nn.ModuleList(_blocks(c, widths[-1], outer, level, depth)))
            widths.append(outer)
        if depth < len(c.multipliers) - 1:
            stages.append(nn.ModuleList([ImageBlock(widths[-1], widths[-1], level, "down")]))
            widths.append(widths[-1])
    return nn.ModuleList(stages), widths


def _decoder(c: EnlargerConfig, level: int, widths: list[int]) -> tuple[nn.ModuleList, int]:
    """Return the stages up and the width after the last."""
    stages, width, kept = [], widths[-1], list(widths)
    for depth in reversed(range(len(c.multipliers))):
        for i in range(c.res_blocks + 1):
            outer = c.multipliers[depth] * c.channels
            blocks = _blocks(c, width + kept.pop(), outer, level, depth)
            width = outer
            if depth and i == c.res_blocks:
                blocks.append(ImageBlock(width, width, level, "up"))
            stages.append(nn.ModuleList(blocks))
    return nn.ModuleList(stages), width


def _blocks(c: EnlargerConfig, inner: int, outer: int, level: int, depth: int) -> list[nn.Module]:
    block = ImageBlock(inner, outer, level)
    return [block, ImageAttention(outer, c.heads)] if depth in c.attention else [block]


def _through(stage: nn.Module, x: Tensor, level: Tensor) -> Tensor:
    for block in stage.children():
        x = block(x, level) if isinstance(block, ImageBlock) else block(x)
    return x
