"""The codec of models with an image VAE, applied to every frame by itself; and the normalisation of video latents."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mmdisco_diffusers.parts import Parts


@dataclass(frozen=True)
class FrameCodec:
    """The part `vae` of a pipeline; latents are (B, C, T, h, w)."""

    parts: Parts
    chunk: int

    @cached_property
    def factor(self) -> int:
        """Return the pixels along each edge of one latent cell."""
        return int(2 ** (len(self.parts.config("vae")["block_out_channels"]) - 1))

    def encode(self, media: Tensor) -> Tensor:
        """Return the mean latents of RGB frames (B, 3, T, H, W)."""
        vae = self.parts.get("vae")
        return self._framewise(media, lambda frames: vae.encode(frames).latent_dist.mode() * vae.config.scaling_factor)

    def decode(self, latent: Tensor) -> Tensor:
        """Return RGB frames of latents."""
        vae = self.parts.get("vae")
        return self._framewise(latent, lambda cells: vae.decode(cells / vae.config.scaling_factor).sample)

    def _framewise(self, x: Tensor, through: Callable[[Tensor], Tensor]) -> Tensor:
        frames = x.transpose(1, 2).flatten(0, 1)
        made = torch.cat([through(part) for part in frames.split(self.chunk)])
        whole: Tensor = made.unflatten(0, (x.shape[0], x.shape[2])).transpose(1, 2)
        return whole


def by_channel(vae: Any, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of a codec's latents (1, C, 1, 1, 1), from its configuration."""
    values = (vae.config.latents_mean or [0.0], vae.config.latents_std or [1.0])
    mean, std = (torch.tensor(value, device=like.device).view(1, -1, 1, 1, 1) for value in values)
    return mean, std
