"""VideoCrafter 2: ModelScope's U-Net with an embedding of the frame rate, and its own forward process.

Its training scaled the clean latents down at noisy levels: x_t = s_t * sqrt(abar_t) * x_0 + sqrt(1 - abar_t) * epsilon,
s falling from 1 to 0.7 over the first 400 of 1000 times. The paper's code sampled it with other betas and without s;
`mismatch` does the same.
"""

from functools import partial
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.diffusion.schedules import (
    Levels,
    Schedule,
    betas_scaled_linear,
    make_schedule,
    spaced_times,
)
from mmdisco_cli.errors import DataError
from mmdisco_diffusers.backbone import DiffusersBackbone
from mmdisco_diffusers.finding import find_model
from mmdisco_diffusers.frame_model import ROLES, FrameModel
from mmdisco_diffusers.opening import open_parts
from mmdisco_diffusers.options import VideoCrafter2Options
from mmdisco_diffusers.parts import Parts
from mmdisco_diffusers.text_to_video_sd import CFG_SCALE, evaluate
from mmdisco_diffusers.weights_on_disk import weight_files

PREFIX = "fps_embedding."
SHRINKING, LEAST, TIMES = 400, 0.7, 1000


def trained_schedule() -> Schedule:
    """Return the levels that VideoCrafter 2 was trained with, whose alpha^2 + sigma^2 is below 1."""
    kept = (1 - betas_scaled_linear(train_steps=TIMES)).cumprod(0)
    shrunk = torch.full((TIMES,), LEAST, dtype=torch.float64)
    shrunk[:SHRINKING] = torch.linspace(1, LEAST, SHRINKING, dtype=torch.float64)
    alphas, sigmas = shrunk * kept.sqrt(), (1 - kept).sqrt()

    def at(index: Tensor) -> Levels:
        return Levels(index.float(), alphas.to(index.device)[index].float(), sigmas.to(index.device)[index].float())

    def levels_at(u: Tensor) -> Levels:
        return at((u.double() * (TIMES - 1)).round().long())

    def grid(steps: int) -> Levels:
        t, alpha, sigma = at(spaced_times(steps, TIMES, "leading", 1))
        end = t.new_zeros(1)
        return Levels(torch.cat([t, end]), torch.cat([alpha, end + 1]), torch.cat([sigma, end]))

    return Schedule("videocrafter2", levels_at, grid)


class _WithFrameRate(nn.Module):
    """A time embedding to which that of a fixed frame rate is added."""

    rate: Tensor

    def __init__(self, time: nn.Module, rate: Tensor) -> None:
        super().__init__()
        self.time = time
        self.register_buffer("rate", rate, persistent=False)

    def forward(self, sample: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the embedding (B, width)."""
        embedded: Tensor = self.time(sample, condition)
        return embedded + self.rate


def _with_frame_rate(fps: float, parts: Parts, unet: Any) -> Any:
    """Add VideoCrafter's embedding of the frame rate to a ModelScope U-Net, from weights that diffusers ignores."""
    from diffusers.models.embeddings import TimestepEmbedding

    files = [path for path in weight_files(parts.place("unet")) if path.suffix == ".safetensors"]
    saved = [item for path in files for item in load_file(path).items()]
    own = {name.removeprefix(PREFIX): weight for name, weight in saved if name.startswith(PREFIX)}
    if not own:
        raise DataError(f"{parts.place('unet')}: has no {PREFIX}* weights, so it is no U-Net of VideoCrafter 2")
    width = unet.config.block_out_channels[0]
    embedding = TimestepEmbedding(width, 4 * width, act_fn="silu")
    embedding.load_state_dict({name: weight.float() for name, weight in own.items()})
    with torch.no_grad():
        rate = embedding(unet.time_proj(torch.tensor([fps])).float())
    unet.time_embedding = _WithFrameRate(unet.time_embedding, rate.to(unet.dtype))
    return unet


def build(label: str, options: VideoCrafter2Options, request: Request) -> DiffusersBackbone:
    """Build the backbone of a recipe."""
    parts = open_parts(
        label,
        options,
        ["TextToVideoSDPipeline"],
        ROLES,
        folders={"unet": find_model(options.unet, f"backbones.{label}.unet", whole=True)},
        made={"unet": partial(_with_frame_rate, options.conditioning_fps)},
        left={"unet": PREFIX},
    )
    schedule = make_schedule("vp-videocrafter2") if options.mismatch else trained_schedule()
    model = FrameModel(parts, options, request, CFG_SCALE, lambda parts: schedule, evaluate)
    return DiffusersBackbone(model, options)
