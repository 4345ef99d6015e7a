"""Clips of a theremin and the hand that plays it, made as they are read, each with a caption."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_example import HandOptions, MelodiesOptions, ThereminOptions
from mmdisco_example.backbone import Theremin, mean_of
from mmdisco_example.hand import Hand

CAPTIONS = ("high notes", "low notes")


@dataclass(frozen=True)
class Melodies:
    """A `mmdisco_cli.data.contract.SplitDataset` that is `Captioned` too."""

    options: MelodiesOptions
    request: Request
    part: str = "train"
    report = ()

    @property
    def length(self) -> int:
        return self.options.clips

    @property
    def fingerprint(self) -> str:
        return f"melodies-1 {self.part} {self.options} {self.request}"

    def split(self, part: str, /) -> "Melodies":
        return replace(self, part=part)

    def media(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, Tensor]:
        makers = {"audio": self.sound, "video": self.hand}
        latents = torch.stack([self.pair(index) for index in indices]).unbind(1)
        played = dict(zip(makers, latents, strict=True))
        return {m: makers[m](played[m]) for m in modalities}  # a KeyError of the name that is not there

    def captions(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, list[str]]:
        return {m: [CAPTIONS[index % 2] for index in indices] for m in modalities}

    def pair(self, index: int) -> Tensor:
        """Return pitch and loudness (2, T) of the sound, and the place of the hand (2, T), as one tensor."""
        draw = torch.Generator().manual_seed(2 * index + (self.part == "heldout"))  # no clip is in both parts
        sound, other = torch.randn(2, 2, self.request.frames or 0, generator=draw)
        correlation = self.options.correlation
        hand = correlation * sound + math.sqrt(1 - correlation**2) * other
        return torch.stack([sound, hand]) + torch.tensor([mean_of(CAPTIONS[index % 2]), 0.0])[:, None]

    def sound(self, latent: Tensor) -> Tensor:
        """Return audio (B, 1, S) of pitch and loudness (B, 2, T)."""
        theremin = Theremin(ThereminOptions())
        return theremin.decode(latent, theremin.plan(self.request))

    def hand(self, latent: Tensor) -> Tensor:
        """Return video (B, 3, T, H, W) of the places (B, 2, T)."""
        hand = Hand(HandOptions())
        return hand.decode(latent[..., None, None], hand.plan(self.request))


def build(options: MelodiesOptions, request: Request) -> Melodies:
    frames = Hand(HandOptions()).plan(request).latent_shape[1]
    return Melodies(options, replace(request, frames=frames))
