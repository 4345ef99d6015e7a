"""What AudioLDM and AudioLDM 2 share: a U-Net over mel latents; they differ in its conditions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import ModalityInfo, ModalityPlan, Request
from mmdisco_cli.diffusion.schedules import Schedule
from mmdisco_diffusers.levels import prediction_of, schedule_of
from mmdisco_diffusers.mel_codec import MelCodec
from mmdisco_diffusers.options import MelOptions
from mmdisco_diffusers.parts import Parts, Roles
from mmdisco_diffusers.prompts import Row
from mmdisco_diffusers.tokens import TextLimit


@dataclass(frozen=True)
class MelModel:
    """A `Family`: latents (B, 8, T, 16), 25 cells a second.

    `encode_prompt` returns the conditions of a prompt and its negative, `evaluate` the U-Net's output for x, t and a
    condition; `pooled` is the key of a condition whose mean is the pooled prompt, and `width` its size; `limits` is how
    much the text encoders read.
    """

    parts: Parts
    options: MelOptions
    roles: Roles
    pooled: str
    width: int
    cfg_scale: float
    encode_prompt: Callable[[Parts, str, str | None, torch.device], tuple[Row, Row]]
    evaluate: Callable[[Any, Tensor, Tensor, Mapping[str, Tensor]], Tensor]
    limits: tuple[TextLimit, ...]

    @cached_property
    def codec(self) -> MelCodec:
        """Return the codec between audio and latents."""
        return MelCodec(self.parts, self.options.normalise, int(self.parts.config("unet")["sample_size"]))

    @cached_property
    def info(self) -> ModalityInfo:
        """Describe the modality."""
        channels = int(self.parts.config("unet")["in_channels"])
        return ModalityInfo("audio", prediction_of(self.parts), channels, self.codec.rate, self.width, self.cfg_scale)

    def schedule(self, plan: ModalityPlan) -> Schedule:
        """Return the noise levels."""
        return schedule_of(self.parts)

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes for a length."""
        return self.codec.plan(request, self.info.latent_channels)

    def text(self, prompt: str, negative: str | None, plan: ModalityPlan, device: torch.device) -> tuple[Row, Row]:
        """Return the conditions of a prompt and its negative."""
        return self.encode_prompt(self.parts, prompt, negative, device)

    def predict(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor], plan: ModalityPlan) -> Tensor:
        """Return the native output."""
        return self.evaluate(self.parts.get("unet"), x, t, condition)

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the latents of audio."""
        return self.codec.encode(media, plan)

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the audio of latents."""
        return self.codec.decode(latent, plan)
