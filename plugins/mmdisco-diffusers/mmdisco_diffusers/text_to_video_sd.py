"""ModelScope's text-to-video and ZeroScope: a U-Net over latents of frames."""

from typing import Any

from torch import Tensor

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_diffusers.backbone import DiffusersBackbone
from mmdisco_diffusers.frame_model import ROLES, FrameModel
from mmdisco_diffusers.levels import schedule_of
from mmdisco_diffusers.opening import open_parts
from mmdisco_diffusers.options import ModelOptions

CFG_SCALE = 9.0


def build(label: str, options: ModelOptions, request: Request) -> DiffusersBackbone:
    """Build the backbone of a recipe."""
    parts = open_parts(label, options, ["TextToVideoSDPipeline"], ROLES)
    return DiffusersBackbone(FrameModel(parts, options, request, CFG_SCALE, schedule_of, evaluate), options)


def evaluate(unet: Any, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
    """Return the U-Net's output for x (B, C, T, h, w)."""
    out: Tensor = unet(x, t, encoder_hidden_states=tokens).sample
    return out
