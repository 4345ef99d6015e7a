"""LTX Video: a flow-matching transformer over packed latents, whose noise levels depend on their number."""

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import ModalityInfo, ModalityPlan, Request
from mmdisco_cli.diffusion.schedules import Levels, Schedule
from mmdisco_cli.errors import UsageError
from mmdisco_diffusers.backbone import DiffusersBackbone
from mmdisco_diffusers.levels import prediction_of
from mmdisco_diffusers.opening import open_parts
from mmdisco_diffusers.options import ModelOptions
from mmdisco_diffusers.parts import Parts, Roles
from mmdisco_diffusers.prompts import Row
from mmdisco_diffusers.request import grouped_plan
from mmdisco_diffusers.t5_text import t5_row
from mmdisco_diffusers.tokens import TextLimit, fixed

ROLES = Roles(("transformer",), ("vae",), ("text_encoder",))
FPS, FRAMES, HEIGHT, WIDTH, TOKENS = 25.0, 161, 512, 704, 128
LIMITS = (TextLimit(fixed(TOKENS)),)


class LTX:
    """A `Family`: latents (B, 128, 1 + (T - 1) / 8, H / 32, W / 32), normalised by channel."""

    roles, pooled, limits = ROLES, "tokens", LIMITS

    def __init__(self, parts: Parts, options: ModelOptions, request: Request) -> None:
        self.parts, self.request = parts, request
        require_single_cells(parts)

    @cached_property
    def info(self) -> ModalityInfo:
        """Describe the modality."""
        config = self.parts.config("transformer")
        prediction, fps = prediction_of(self.parts), self.request.fps or FPS
        return ModalityInfo("video", prediction, int(config["in_channels"]), fps, int(config["caption_channels"]), 3.0)

    def schedule(self, plan: ModalityPlan) -> Schedule:
        """Return the noise levels for the number of latent tokens."""
        return by_tokens(self.parts.get("scheduler"), math.prod(plan.latent_shape[1:]), (256, 4096), (0.5, 1.15))

    @cached_property
    def factors(self) -> tuple[int, int]:
        """Return the frames (after the first) and the pixels along each edge of one latent cell."""
        return factors_of(self.parts.config("vae"))

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes: whole groups of frames after the first."""
        return grouped_plan(request, FPS, (FRAMES, HEIGHT, WIDTH), self.info.latent_channels, self.factors)

    def text(self, prompt: str, negative: str | None, plan: ModalityPlan, device: torch.device) -> tuple[Row, Row]:
        """Return T5's hidden states and their mask; the default negative is the empty text."""
        rows = [t5_row(self.parts, text, LIMITS[0], device, masked=False) for text in (prompt, negative or "")]
        return rows[0], rows[1]

    def predict(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor], plan: ModalityPlan) -> Tensor:
        """Return the native output."""
        group, factor = self.factors
        _, _, frames, height, width = x.shape
        out: Tensor = self.parts.get("transformer")(
            hidden_states=pack(x),
            encoder_hidden_states=condition["tokens"],
            timestep=t,
            encoder_attention_mask=condition["mask"],
            num_frames=frames,
            height=height,
            width=width,
            rope_interpolation_scale=(group / (plan.rate or FPS), factor, factor),
            return_dict=False,
        )[0]
        return unpack(out, (frames, height, width))

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the mean latents of frames, normalised."""
        return encoded(self.parts.get("vae"), media)

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return frames of normalised latents."""
        return decoded(self.parts.get("vae"), latent)


def require_single_cells(parts: Parts) -> None:
    """Raise UsageError where a transformer takes patches of more than one latent cell: no published one does."""
    config = parts.config("transformer")
    if (config["patch_size"], config["patch_size_t"]) != (1, 1):
        raise UsageError(f"{parts.place('transformer')}: patches of more than one cell are not supported")


def factors_of(vae: Mapping[str, Any]) -> tuple[int, int]:
    """Return the frames (after the first) and the pixels along each edge of one latent cell of a codec."""
    halvings = 2 ** sum(vae["spatio_temporal_scaling"])
    time, space = vae.get("temporal_compression_ratio"), vae.get("spatial_compression_ratio")
    return int(time or vae["patch_size_t"] * halvings), int(space or vae["patch_size"] * halvings)


def by_tokens(scheduler: Any, tokens: int, counts: tuple[int, int], shifts: tuple[float, float]) -> Schedule:
    """Return the levels of a flow scheduler for a number of tokens: the log-shift is linear in it, through two points.

    `counts` and `shifts` are the pipeline's points, where the scheduler has none of its own.
    """
    config = scheduler.config
    few, many = config.get("base_image_seq_len", counts[0]), config.get("max_image_seq_len", counts[1])
    low, high = config.get("base_shift", shifts[0]), config.get("max_shift", shifts[1])
    dynamic = config.get("use_dynamic_shifting", False)
    line = low + (high - low) * (tokens - few) / (many - few)
    return shifted_flow(scheduler, line if dynamic else math.log(config.get("shift", 1.0)))


def shifted_flow(scheduler: Any, mu: float) -> Schedule:
    """Return the levels of a flow scheduler whose shift is exp(mu); its grid may end above the last uniform step."""
    times = int(scheduler.config.num_train_timesteps)

    def levels(s: Tensor, t: Tensor) -> Levels:
        return Levels(t.float(), (1 - s).float(), s.float())

    def levels_at(u: Tensor) -> Levels:
        s = u.double()
        s = math.exp(mu) * s / (1 + (math.exp(mu) - 1) * s)
        return levels(s, s * times)

    def grid(steps: int) -> Levels:
        fresh = type(scheduler).from_config(scheduler.config)
        fresh.set_timesteps(sigmas=torch.linspace(1, 1 / steps, steps, dtype=torch.float64).numpy(), mu=mu)
        return levels(fresh.sigmas.cpu(), torch.cat([fresh.timesteps.cpu(), torch.zeros(1)]))

    return Schedule("flow", levels_at, grid)


def encoded(vae: Any, media: Tensor) -> Tensor:
    """Return the mean latents of frames (B, 3, T, H, W), normalised by channel."""
    mean, std = _statistics(vae)
    latent: Tensor = (vae.encode(media).latent_dist.mode() - mean) * vae.config.scaling_factor / std
    return latent


def decoded(vae: Any, latent: Tensor) -> Tensor:
    """Return frames of normalised latents, without the noise that some decoders can take."""
    mean, std = _statistics(vae)
    time = latent.new_zeros(len(latent)) if vae.config.timestep_conditioning else None
    frames: Tensor = vae.decode(latent * std / vae.config.scaling_factor + mean, time).sample
    return frames


def pack(x: Tensor) -> Tensor:
    """Return latents (B, C, T, H, W) as tokens (B, T * H * W, C)."""
    return x.flatten(2).transpose(1, 2)


def unpack(tokens: Tensor, cells: tuple[int, ...]) -> Tensor:
    """Return tokens as latents of these cells (T, H, W)."""
    x: Tensor = tokens.transpose(1, 2).unflatten(2, cells)
    return x


def _statistics(vae: Any) -> tuple[Tensor, Tensor]:
    return vae.latents_mean.view(1, -1, 1, 1, 1), vae.latents_std.view(1, -1, 1, 1, 1)


def build(label: str, options: ModelOptions, request: Request) -> DiffusersBackbone:
    """Build the backbone of a recipe."""
    parts = open_parts(label, options, ["LTXPipeline"], ROLES)
    return DiffusersBackbone(LTX(parts, options, request), options)
