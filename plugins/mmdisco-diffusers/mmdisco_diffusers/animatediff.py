"""AnimateDiff: a Stable Diffusion U-Net with motion modules, in one pipeline or with a separate motion adapter."""

import warnings
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.diffusion.schedules import Schedule
from mmdisco_cli.errors import UsageError
from mmdisco_diffusers.backbone import DiffusersBackbone
from mmdisco_diffusers.finding import find_model
from mmdisco_diffusers.frame_model import FRAMES, ROLES, FrameModel
from mmdisco_diffusers.levels import schedule_of
from mmdisco_diffusers.opening import open_parts
from mmdisco_diffusers.options import AnimateDiffOptions
from mmdisco_diffusers.parts import Parts

CFG_SCALE = 7.5


def build(label: str, options: AnimateDiffOptions, request: Request) -> DiffusersBackbone:
    """Build the backbone of a recipe.

    Raises:
        UsageError, DataError: as for `open_parts`, or a Stable Diffusion without an adapter.
    """
    parts = _parts(label, options)

    def levels(parts: Parts) -> Schedule:
        return schedule_of(parts, {"beta_schedule": options.betas} if options.betas else {})

    most = int(parts.config("motion_adapter")["motion_max_seq_length"])
    why = f"the motion modules were trained on {FRAMES} frames and take at most {most}"
    return DiffusersBackbone(FrameModel(parts, options, request, CFG_SCALE, levels, _evaluate, most, why), options)


def _parts(label: str, options: AnimateDiffOptions) -> Parts:
    if options.adapter is None:
        parts = open_parts(label, options, ["AnimateDiffPipeline", "StableDiffusionPipeline"], ROLES)
        if not parts.has("motion_adapter"):
            key = f"backbones.{label}.adapter"
            raise UsageError(f"{key}: missing; {parts.folder} is a Stable Diffusion, which has no motion modules")
        return parts
    folder = find_model(options.adapter, f"backbones.{label}.adapter", whole=True)
    return open_parts(
        label,
        options,
        ["StableDiffusionPipeline"],
        ROLES,
        classes={"motion_adapter": "MotionAdapter"},
        folders={"motion_adapter": folder},
        made={"unet": _with_motion},
    )


def _evaluate(unet: Any, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
    out: Tensor = unet(x, t, encoder_hidden_states=tokens.repeat_interleave(x.shape[2], 0)).sample
    return out


def _with_motion(parts: Parts, unet: Any) -> Any:
    """Return an image U-Net with the adapter's motion modules inserted, made of the tensors of both, without a copy."""
    adapter = parts.get("motion_adapter")
    parts.drop(["motion_adapter"])
    return joined(unet, adapter).to(unet.dtype)


def joined(unet: Any, adapter: Any) -> Any:
    """Return a UNetMotionModel that shares the weights of an image U-Net and of a motion adapter."""
    from diffusers import UNetMotionModel

    with warnings.catch_warnings(), torch.device("meta"):
        # What it copies goes nowhere yet: in memory it would be a second model, in float32.
        warnings.simplefilter("ignore", UserWarning)
        model = UNetMotionModel.from_unet2d(unet, adapter)
    model.load_state_dict({**unet.state_dict(), **adapter.state_dict()}, assign=True)
    return model
