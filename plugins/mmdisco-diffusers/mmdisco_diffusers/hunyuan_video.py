"""HunyuanVideo: a flow-matching transformer with its guidance scale as input, so that one pass is enough."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import ModalityInfo, ModalityPlan, Request
from mmdisco_cli.diffusion.schedules import Schedule, flow
from mmdisco_diffusers.backbone import DiffusersBackbone
from mmdisco_diffusers.levels import prediction_of
from mmdisco_diffusers.opening import open_parts
from mmdisco_diffusers.options import HunyuanVideoOptions
from mmdisco_diffusers.parts import Parts, Roles
from mmdisco_diffusers.prompts import Row
from mmdisco_diffusers.request import grouped_plan
from mmdisco_diffusers.tokens import TextLimit, fixed, warn_truncated, without_own_warnings

ROLES = Roles(("transformer",), ("vae",), ("text_encoder", "text_encoder_2"))
TOKENIZERS = ("tokenizer", "tokenizer_2")
LLAMA_TOKENS, CLIP_TOKENS = 256, 77
"""Most tokens of each text encoder, for the first beside its template."""
FPS, FRAMES, HEIGHT, WIDTH = 24.0, 129, 720, 1280


def _template() -> dict[str, Any]:
    from diffusers.pipelines.hunyuan_video.pipeline_hunyuan_video import DEFAULT_PROMPT_TEMPLATE

    found: dict[str, Any] = DEFAULT_PROMPT_TEMPLATE
    return found


LIMITS = (
    TextLimit(
        lambda own: LLAMA_TOKENS + _template()["crop_start"], "", lambda text: _template()["template"].format(text)
    ),
    TextLimit(fixed(CLIP_TOKENS), "_2"),
)


class HunyuanVideo:
    """A `Family`: latents (B, 16, 1 + (T - 1) / 4, H / 8, W / 8)."""

    roles, pooled, limits = ROLES, "pooled", LIMITS

    def __init__(self, parts: Parts, options: HunyuanVideoOptions, request: Request) -> None:
        self.parts, self.options, self.request = parts, options, request

    @cached_property
    def info(self) -> ModalityInfo:
        """Describe the modality; its CFG scale is 1, because the model takes a guidance scale as input."""
        config, fps = self.parts.config("transformer"), self.request.fps or FPS
        channels, pooled = int(config["in_channels"]), int(config["pooled_projection_dim"])
        return ModalityInfo("video", prediction_of(self.parts), channels, fps, pooled, 1.0)

    def schedule(self, plan: ModalityPlan) -> Schedule:
        """Return the noise levels: uniform steps, shifted."""
        config = self.parts.config("scheduler")
        return flow(float(config.get("shift", 1.0)), train_steps=int(config.get("num_train_timesteps", 1000)))

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes: whole groups of frames after the first, whole patches of latent cells."""
        vae, config = self.parts.config("vae"), self.parts.config("transformer")
        factors = int(vae["temporal_compression_ratio"]), int(vae["spatial_compression_ratio"])
        channels, default = self.info.latent_channels, (FRAMES, HEIGHT, WIDTH)
        return grouped_plan(request, FPS, default, channels, factors, int(config["patch_size"]))

    def text(self, prompt: str, negative: str | None, plan: ModalityPlan, device: torch.device) -> tuple[Row, Row]:
        """Return the language model's hidden states with their mask, and CLIP's pooled embedding."""
        pipeline = self._text_pipeline()
        rows = []
        for text in (prompt, negative or ""):
            for limit in self.limits:
                warn_truncated(self.parts, limit.prepared(text), limit)
            with without_own_warnings(pipeline):
                tokens, pooled, mask = pipeline.encode_prompt(text, device=device)
            rows.append({"tokens": tokens[0], "pooled": pooled[0], "mask": mask[0].long()})
        return rows[0], rows[1]

    def predict(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor], plan: ModalityPlan) -> Tensor:
        """Return the native output."""
        out: Tensor = self.parts.get("transformer")(
            hidden_states=x,
            timestep=t.to(x.dtype),
            encoder_hidden_states=condition["tokens"],
            encoder_attention_mask=condition["mask"].to(x.dtype),
            pooled_projections=condition["pooled"],
            guidance=torch.full_like(t, self.options.embedded_guidance_scale * 1000, dtype=x.dtype),
            return_dict=False,
        )[0]
        return out

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the mean latents of frames."""
        vae = self.parts.get("vae")
        latent: Tensor = vae.encode(media).latent_dist.mode() * vae.config.scaling_factor
        return latent

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return frames of latents."""
        vae = self.parts.get("vae")
        frames: Tensor = vae.decode(latent / vae.config.scaling_factor).sample
        return frames

    def _text_pipeline(self) -> Any:
        from diffusers import HunyuanVideoPipeline

        absent = dict.fromkeys(("vae", "transformer", "scheduler"))
        return HunyuanVideoPipeline(**absent, **{name: self.parts.get(name) for name in (*ROLES.text, *TOKENIZERS)})


def build(label: str, options: HunyuanVideoOptions, request: Request) -> DiffusersBackbone:
    """Build the backbone of a recipe."""
    parts = open_parts(label, options, ["HunyuanVideoPipeline"], ROLES)
    return DiffusersBackbone(HunyuanVideo(parts, options, request), options)
