"""What video models based on image models share: CLIP's text encoder, and an image codec."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import ModalityInfo, ModalityPlan, Request
from mmdisco_cli.diffusion.schedules import Schedule
from mmdisco_diffusers.clip_text import LIMIT, clip_tokens
from mmdisco_diffusers.frame_codec import FrameCodec
from mmdisco_diffusers.levels import prediction_of
from mmdisco_diffusers.options import ModelOptions
from mmdisco_diffusers.parts import Parts, Roles
from mmdisco_diffusers.prompts import Row
from mmdisco_diffusers.request import VideoRules, video_cells, video_plan, video_shape

ROLES = Roles(("unet",), ("vae",), ("text_encoder",))
FPS, FRAMES = 8.0, 16


@dataclass(frozen=True)
class FrameModel:
    """A `Family`: latents (B, 4, T, H / 8, W / 8).

    `levels` returns the noise levels, `evaluate` the U-Net's output for x, t and CLIP's hidden states; `most` is the
    maximal number of frames, and `why` its reason.
    """

    parts: Parts
    options: ModelOptions
    request: Request
    cfg_scale: float
    levels: Callable[[Parts], Schedule]
    evaluate: Callable[[Any, Tensor, Tensor, Tensor], Tensor]
    most: int | None = None
    why: str = ""
    roles = ROLES
    pooled = "tokens"
    limits = (LIMIT,)

    @cached_property
    def codec(self) -> FrameCodec:
        """Return the codec between frames and latents."""
        return FrameCodec(self.parts, self.options.chunk)

    @cached_property
    def info(self) -> ModalityInfo:
        """Describe the modality."""
        config, fps = self.parts.config("unet"), self.request.fps or FPS
        channels, width = int(config["in_channels"]), int(config["cross_attention_dim"])
        return ModalityInfo("video", prediction_of(self.parts), channels, fps, width, self.cfg_scale)

    def schedule(self, plan: ModalityPlan) -> Schedule:
        """Return the noise levels."""
        return self.levels(self.parts)

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes, at most `most` frames."""
        factor = self.codec.factor
        side = int(self.parts.config("unet")["sample_size"]) * factor
        default = (min(FRAMES, self.most or FRAMES), side, side)
        rules = VideoRules(FPS, default, cell=factor, most=self.most, why=self.why)
        shape, fps, notes = video_shape(request, rules)
        return video_plan((self.info.latent_channels, *video_cells(shape, 1, factor)), shape, fps, notes)

    def text(self, prompt: str, negative: str | None, plan: ModalityPlan, device: torch.device) -> tuple[Row, Row]:
        """Return CLIP's hidden states; the default negative is the empty text."""
        positive, other = (clip_tokens(self.parts, text, device) for text in (prompt, negative or ""))
        return {"tokens": positive}, {"tokens": other}

    def predict(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor], plan: ModalityPlan) -> Tensor:
        """Return the native output."""
        return self.evaluate(self.parts.get("unet"), x, t, condition["tokens"])

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return latents of frames."""
        return self.codec.encode(media)

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return frames of latents."""
        return self.codec.decode(latent)
