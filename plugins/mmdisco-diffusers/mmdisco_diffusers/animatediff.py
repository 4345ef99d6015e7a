"""AnimateDiff: a Stable Diffusion whose U-Net was taught motion, whole or as an adapter beside it."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import ModalityInfo, ModalityPlan, Request
from mmdisco_cli.diffusion.schedules import Schedule
from mmdisco_cli.errors import UsageError
from mmdisco_diffusers.backbone import DiffusersBackbone, Roles, Row
from mmdisco_diffusers.clip_text import clip_tokens
from mmdisco_diffusers.finding import find_model
from mmdisco_diffusers.frame_codec import FrameCodec
from mmdisco_diffusers.levels import prediction_of, schedule_of
from mmdisco_diffusers.opening import open_parts
from mmdisco_diffusers.options import AnimateDiffOptions
from mmdisco_diffusers.parts import Parts
from mmdisco_diffusers.request import VideoRules, video_plan, video_shape

ROLES = Roles(("unet",), ("vae",), ("text_encoder",))
FPS, FRAMES = 8.0, 16


class AnimateDiff:
    """A `Family`: latents (B, 4, T, H / 8, W / 8)."""

    roles, pooled = ROLES, "tokens"

    def __init__(self, parts: Parts, options: AnimateDiffOptions, request: Request) -> None:
        self.parts, self.options, self.request = parts, options, request
        self.codec = FrameCodec(parts, options.chunk)

    @cached_property
    def info(self) -> ModalityInfo:
        """Describe the modality."""
        config = self.parts.config("unet")
        prediction, fps = prediction_of(self.parts), self.request.fps or FPS
        return ModalityInfo(
            "video", prediction, int(config["in_channels"]), fps, int(config["cross_attention_dim"]), 7.5
        )

    def schedule(self, plan: ModalityPlan) -> Schedule:
        """Return the noise levels."""
        return schedule_of(self.parts, {"beta_schedule": self.options.betas} if self.options.betas else {})

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes: no more frames than there are positions in time."""
        side, factor = int(self.parts.config("unet")["sample_size"]) * self.codec.factor, self.codec.factor
        most = int(self.parts.config("motion_adapter")["motion_max_seq_length"])
        why = f"the motion modules were trained on {FRAMES} frames and know {most}"
        rules = VideoRules(FPS, (min(FRAMES, most), side, side), cell=factor, most=most, why=why)
        shape, fps, notes = video_shape(request, rules)
        latent = (self.info.latent_channels, shape[0], shape[1] // factor, shape[2] // factor)
        return video_plan(latent, shape, fps, notes)

    def text(self, prompt: str, negative: str | None, plan: ModalityPlan, device: torch.device) -> tuple[Row, Row]:
        """Return CLIP's tokens; the default negative is the empty text."""
        positive, other = (clip_tokens(self.parts, text, device) for text in (prompt, negative or ""))
        return {"tokens": positive}, {"tokens": other}

    def predict(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor], plan: ModalityPlan) -> Tensor:
        """Return the native output."""
        tokens = condition["tokens"].repeat_interleave(x.shape[2], 0)
        out: Tensor = self.parts.get("unet")(x, t, encoder_hidden_states=tokens).sample
        return out

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return latents of frames."""
        return self.codec.encode(media)

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return frames of latents."""
        return self.codec.decode(latent)


def build(label: str, options: AnimateDiffOptions, request: Request) -> DiffusersBackbone:
    """Build the backbone of a recipe.

    Raises:
        UsageError, DataError: as for `open_parts`, or a Stable Diffusion without an adapter.
    """
    if options.adapter is None:
        parts = open_parts(label, options, ["AnimateDiffPipeline", "StableDiffusionPipeline"], ROLES)
        if not parts.has("motion_adapter"):
            key = f"backbones.{label}.adapter"
            raise UsageError(f"{key}: missing; {parts.folder} is a Stable Diffusion, which knows no motion")
    else:
        folder = find_model(options.adapter, f"backbones.{label}.adapter", whole=True)
        parts = open_parts(
            label,
            options,
            ["StableDiffusionPipeline"],
            ROLES,
            classes={"motion_adapter": "MotionAdapter"},
            folders={"motion_adapter": folder},
            made={"unet": _with_motion},
        )
    return DiffusersBackbone(AnimateDiff(parts, options, request), options)


def _with_motion(parts: Parts, unet: Any) -> Any:
    """Build the motion modules of the adapter into a U-Net of single pictures."""
    from diffusers import UNetMotionModel

    adapter = parts.get("motion_adapter")
    parts.drop(["motion_adapter"])
    return UNetMotionModel.from_unet2d(unet, adapter).to(unet.dtype)
