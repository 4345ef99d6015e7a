"""ModelScope's text-to-video and ZeroScope: a U-Net over latents of frames."""

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import ModalityInfo, ModalityPlan, Request
from mmdisco_cli.diffusion.schedules import Schedule
from mmdisco_diffusers.backbone import DiffusersBackbone, Roles, Row
from mmdisco_diffusers.clip_text import clip_tokens
from mmdisco_diffusers.frame_codec import FrameCodec
from mmdisco_diffusers.levels import prediction_of, schedule_of
from mmdisco_diffusers.opening import open_parts
from mmdisco_diffusers.options import ModelOptions
from mmdisco_diffusers.parts import Parts
from mmdisco_diffusers.request import VideoRules, video_plan, video_shape

ROLES = Roles(("unet",), ("vae",), ("text_encoder",))
FPS, FRAMES = 8.0, 16


class TextToVideoSD:
    """A `Family`: latents (B, 4, T, H / 8, W / 8)."""

    roles, pooled = ROLES, "tokens"

    def __init__(self, parts: Parts, options: ModelOptions, request: Request, schedule: Schedule | None = None) -> None:
        self.parts, self.request, self.own = parts, request, schedule
        self.codec = FrameCodec(parts, options.chunk)

    @cached_property
    def info(self) -> ModalityInfo:
        """Describe the modality."""
        config = self.parts.config("unet")
        prediction, fps = prediction_of(self.parts), self.request.fps or FPS
        return ModalityInfo(
            "video", prediction, int(config["in_channels"]), fps, int(config["cross_attention_dim"]), 9.0
        )

    def schedule(self, plan: ModalityPlan) -> Schedule:
        """Return the noise levels."""
        return self.own or schedule_of(self.parts)

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes."""
        side, factor = int(self.parts.config("unet")["sample_size"]) * self.codec.factor, self.codec.factor
        shape, fps, notes = video_shape(request, VideoRules(FPS, (FRAMES, side, side), cell=factor))
        latent = (self.info.latent_channels, shape[0], shape[1] // factor, shape[2] // factor)
        return video_plan(latent, shape, fps, notes)

    def text(self, prompt: str, negative: str | None, plan: ModalityPlan, device: torch.device) -> tuple[Row, Row]:
        """Return CLIP's tokens; the default negative is the empty text."""
        positive, other = (clip_tokens(self.parts, text, device) for text in (prompt, negative or ""))
        return {"tokens": positive}, {"tokens": other}

    def predict(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor], plan: ModalityPlan) -> Tensor:
        """Return the native output."""
        out: Tensor = self.parts.get("unet")(x, t, encoder_hidden_states=condition["tokens"]).sample
        return out

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return latents of frames."""
        return self.codec.encode(media)

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return frames of latents."""
        return self.codec.decode(latent)


def build(label: str, options: ModelOptions, request: Request) -> DiffusersBackbone:
    """Build the backbone of a recipe."""
    parts = open_parts(label, options, ["TextToVideoSDPipeline"], ROLES)
    return DiffusersBackbone(TextToVideoSD(parts, options, request), options)
