"""Mochi 1: a flow model whose time and velocity run from noise to data, on a grid with many noisy levels."""

from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import ModalityInfo, ModalityPlan, Request
from mmdisco_cli.diffusion.schedules import Levels, Schedule
from mmdisco_diffusers.backbone import DiffusersBackbone
from mmdisco_diffusers.finding import read_json
from mmdisco_diffusers.frame_codec import by_channel
from mmdisco_diffusers.opening import open_parts
from mmdisco_diffusers.options import ModelOptions
from mmdisco_diffusers.parts import Parts, Roles
from mmdisco_diffusers.prompts import Row
from mmdisco_diffusers.request import grouped_plan
from mmdisco_diffusers.t5_text import t5_row
from mmdisco_diffusers.tokens import TextLimit, fixed

ROLES = Roles(("transformer",), ("vae",), ("text_encoder",))
FPS, FRAMES, HEIGHT, WIDTH, TOKENS = 30.0, 19, 480, 848, 256
LIMITS = (TextLimit(fixed(TOKENS)),)
GROUP, FACTOR, PATCH = 6, 8, 2
DWELL = 0.025
"""The alpha that the first half of the steps reaches."""


class Mochi:
    """A `Family`: latents (B, 12, 1 + (T - 1) / 6, H / 8, W / 8), normalised by channel."""

    roles, pooled, limits = ROLES, "tokens", LIMITS

    def __init__(self, parts: Parts, options: ModelOptions, request: Request) -> None:
        self.parts, self.request = parts, request
        self.index = read_json(parts.folder / "model_index.json") or {}

    @cached_property
    def info(self) -> ModalityInfo:
        """Describe the modality."""
        config, fps = self.parts.config("transformer"), self.request.fps or FPS
        channels, pooled = int(config["in_channels"]), int(config["text_embed_dim"])
        return ModalityInfo("video", "flow_reversed", channels, fps, pooled, 4.5)

    def schedule(self, plan: ModalityPlan) -> Schedule:
        """Return the noise levels."""
        return linear_quadratic_flow(int(self.parts.config("scheduler").get("num_train_timesteps", 1000)))

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes: whole groups of frames after the first, whole patches of latent cells."""
        channels, default = self.info.latent_channels, (FRAMES, HEIGHT, WIDTH)
        return grouped_plan(request, FPS, default, channels, (GROUP, FACTOR), PATCH)

    def text(self, prompt: str, negative: str | None, plan: ModalityPlan, device: torch.device) -> tuple[Row, Row]:
        """Return T5's hidden states and their mask; the default negative is the empty text."""
        empty = bool(self.index.get("force_zeros_for_empty_prompt"))
        rows = [
            t5_row(self.parts, text, LIMITS[0], device, masked=True, empty=empty) for text in (prompt, negative or "")
        ]
        return rows[0], rows[1]

    def predict(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor], plan: ModalityPlan) -> Tensor:
        """Return the native output."""
        out: Tensor = self.parts.get("transformer")(
            hidden_states=x,
            encoder_hidden_states=condition["tokens"],
            timestep=t.to(x.dtype),
            encoder_attention_mask=condition["mask"].bool(),
            return_dict=False,
        )[0]
        return out

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the mean latents of frames, normalised."""
        vae = self.parts.get("vae")
        mean, std = by_channel(vae, media)
        latent: Tensor = (vae.encode(media).latent_dist.mode() - mean) * vae.config.scaling_factor / std
        return latent

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return frames of normalised latents."""
        vae = self.parts.get("vae")
        mean, std = by_channel(vae, latent)
        frames: Tensor = vae.decode(latent * std / vae.config.scaling_factor + mean).sample
        return frames


def linear_quadratic_flow(times: int) -> Schedule:
    """Return Mochi's linear-quadratic flow schedule: alpha rises linearly to 0.025 in the first half of the steps.

    In the second half it rises to 1 by a parabola that continues smoothly.
    """

    def alpha_at(way: Tensor) -> Tensor:
        late = (way - 0.5).clamp(min=0)
        return 2 * DWELL * way + (1 - 2 * DWELL) * 4 * late.square()

    def levels_at(u: Tensor) -> Levels:
        alpha = alpha_at(1 - u.double()).clamp(0, 1)
        return Levels((alpha * times).float(), alpha.float(), (1 - alpha).float())

    def grid(steps: int) -> Levels:
        way = torch.arange(steps + 1, dtype=torch.float64)
        half = steps // 2  # rounded down, so that of an odd number the parabola has one step more
        linear = way * DWELL / max(half, 1)
        rest, slope = steps - half, DWELL / max(half, 1)
        late = (way - half).clamp(min=0)
        bend = (1 - (DWELL if half else 0) - (slope * rest if half else 0)) / rest**2
        alpha = (linear if half else 0 * way) + bend * late.square()
        alpha = alpha if half else way / steps
        return Levels((alpha * times).float(), alpha.float(), (1 - alpha).float())

    return Schedule("flow", levels_at, grid)


def build(label: str, options: ModelOptions, request: Request) -> DiffusersBackbone:
    """Build the backbone of a recipe."""
    parts = open_parts(label, options, ["MochiPipeline"], ROLES)
    return DiffusersBackbone(Mochi(parts, options, request), options)
