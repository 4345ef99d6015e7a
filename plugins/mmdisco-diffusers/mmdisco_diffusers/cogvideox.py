"""CogVideoX: a transformer over latents of four frames each, time before channels in its own layout."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import ModalityInfo, ModalityPlan, Request
from mmdisco_cli.diffusion.schedules import Schedule
from mmdisco_diffusers.backbone import DiffusersBackbone
from mmdisco_diffusers.levels import prediction_of, schedule_of
from mmdisco_diffusers.opening import open_parts
from mmdisco_diffusers.options import ModelOptions
from mmdisco_diffusers.parts import Parts, Roles
from mmdisco_diffusers.prompts import Row
from mmdisco_diffusers.request import VideoRules, video_cells, video_plan, video_shape
from mmdisco_diffusers.tokens import TextLimit, fixed, tokens_of

ROLES = Roles(("transformer",), ("vae",), ("text_encoder",))
FPS, TOKENS = 8.0, 226
WHY = "its codec makes one frame, then two latent steps of four at a time"


class CogVideoX:
    """A `Family`: latents (B, 16, 1 + (T - 1) / 4, H / 8, W / 8)."""

    roles, pooled, limits = ROLES, "tokens", (TextLimit(fixed(TOKENS)),)

    def __init__(self, parts: Parts, options: ModelOptions, request: Request) -> None:
        self.parts, self.request = parts, request

    @cached_property
    def info(self) -> ModalityInfo:
        """Describe the modality."""
        config = self.parts.config("transformer")
        prediction, fps = prediction_of(self.parts), self.request.fps or FPS
        return ModalityInfo("video", prediction, int(config["in_channels"]), fps, int(config["text_embed_dim"]), 6.0)

    def schedule(self, plan: ModalityPlan) -> Schedule:
        """Return the noise levels."""
        return schedule_of(self.parts)

    @cached_property
    def factors(self) -> tuple[int, int]:
        """Return how many frames after the first, and how many pixels, make one latent cell."""
        config = self.parts.config("vae")
        return int(config["temporal_compression_ratio"]), int(2 ** (len(config["block_out_channels"]) - 1))

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes: whole pairs of latent steps after the first, whole patches of latent cells."""
        config, (group, factor) = self.parts.config("transformer"), self.factors
        default = (
            int(config["sample_frames"]),
            int(config["sample_height"]) * factor,
            int(config["sample_width"]) * factor,
        )
        cell = factor * int(config["patch_size"])
        rules = VideoRules(FPS, default, group=2 * group, cell=cell, why=WHY)
        shape, fps, notes = video_shape(request, rules)
        steps, height, width = video_cells(shape, group, factor)
        latent = (self.info.latent_channels, steps + self._padding(steps), height, width)
        return video_plan(latent, shape, fps, notes)

    def text(self, prompt: str, negative: str | None, plan: ModalityPlan, device: torch.device) -> tuple[Row, Row]:
        """Return T5's tokens; the default negative is the empty text."""
        positive, other = (self._tokens(text, device) for text in (prompt, negative or ""))
        return {"tokens": positive}, {"tokens": other}

    def predict(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor], plan: ModalityPlan) -> Tensor:
        """Return the native output."""
        model = self.parts.get("transformer")
        out: Tensor = model(
            hidden_states=x.transpose(1, 2),
            encoder_hidden_states=condition["tokens"],
            timestep=t,
            image_rotary_emb=self._rotary(model.config, x) if model.config.use_rotary_positional_embeddings else None,
        ).sample
        return out.transpose(1, 2)

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the mean latents of frames, the first repeated where the transformer needs more."""
        vae = self.parts.get("vae")
        latent: Tensor = vae.encode(media).latent_dist.mode() * vae.config.scaling_factor
        missing = plan.latent_shape[1] - latent.shape[2]
        return torch.cat([latent[:, :, :1].expand(-1, -1, missing, -1, -1), latent], 2)

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return frames of latents, without the padding to whole patches."""
        steps = (plan.media_shape[1] - 1) // self.factors[0] + 1
        vae = self.parts.get("vae")
        frames: Tensor = vae.decode(latent[:, :, latent.shape[2] - steps :] / vae.config.scaling_factor).sample
        return frames

    def _padding(self, steps: int) -> int:
        return -steps % int(self.parts.config("transformer").get("patch_size_t") or 1)

    def _tokens(self, text: str, device: torch.device) -> Tensor:
        tokens = tokens_of(self.parts, text, self.limits[0], device)
        # No attention mask: the model was trained with visible padding.
        hidden: Tensor = self.parts.get("text_encoder")(tokens.input_ids)[0][0]
        return hidden

    def _rotary(self, config: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        from diffusers.models.embeddings import get_3d_rotary_pos_embed

        _, _, frames, height, width = x.shape
        grid = height // config.patch_size, width // config.patch_size
        base = config.sample_height // config.patch_size, config.sample_width // config.patch_size
        size = config.attention_head_dim
        if config.patch_size_t is None:
            found = get_3d_rotary_pos_embed(size, _centred(grid, base), grid, frames, device=x.device)
        else:
            groups = -(-frames // config.patch_size_t)
            found = get_3d_rotary_pos_embed(size, None, grid, groups, grid_type="slice", max_size=base, device=x.device)
        cosine, sine = found
        return cosine, sine


def _centred(grid: tuple[int, int], base: tuple[int, int]) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the corners of the largest box of a grid's proportions in the middle of the trained one."""
    scale = min(base[0] / grid[0], base[1] / grid[1])
    size = round(grid[0] * scale), round(grid[1] * scale)
    start = round((base[0] - size[0]) / 2), round((base[1] - size[1]) / 2)
    return start, (start[0] + size[0], start[1] + size[1])


def build(label: str, options: ModelOptions, request: Request) -> DiffusersBackbone:
    """Build the backbone of a recipe."""
    parts = open_parts(label, options, ["CogVideoXPipeline"], ROLES)
    return DiffusersBackbone(CogVideoX(parts, options, request), options)
