"""Wan 2.1 and 2.2: a flow-matching transformer, or two, for noisy and for cleaner levels."""

import html
from collections.abc import Mapping
from functools import cached_property

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import ModalityInfo, ModalityPlan, Request
from mmdisco_cli.diffusion.schedules import Schedule
from mmdisco_diffusers.backbone import DiffusersBackbone
from mmdisco_diffusers.finding import read_json
from mmdisco_diffusers.frame_codec import by_channel
from mmdisco_diffusers.levels import prediction_of, schedule_of
from mmdisco_diffusers.opening import open_parts
from mmdisco_diffusers.options import ModelOptions
from mmdisco_diffusers.parts import Parts, Roles
from mmdisco_diffusers.prompts import Row
from mmdisco_diffusers.request import grouped_plan
from mmdisco_diffusers.tokens import TextLimit, fixed, tokens_of

ROLES = Roles(("transformer", "transformer_2"), ("vae",), ("text_encoder",))
FPS, FRAMES, HEIGHT, WIDTH, TOKENS = 16.0, 81, 480, 832, 512


class Wan:
    """A `Family`: latents (B, 16, 1 + (T - 1) / 4, H / 8, W / 8), normalised by channel."""

    roles, pooled = ROLES, "tokens"
    limits = (TextLimit(fixed(TOKENS), prepared=lambda text: _cleaned(text)),)

    def __init__(self, parts: Parts, options: ModelOptions, request: Request) -> None:
        self.parts, self.request = parts, request
        self.index = read_json(parts.folder / "model_index.json") or {}

    @cached_property
    def info(self) -> ModalityInfo:
        """Describe the modality."""
        config = self.parts.config("transformer")
        prediction, fps = prediction_of(self.parts), self.request.fps or FPS
        return ModalityInfo("video", prediction, int(config["in_channels"]), fps, int(config["text_dim"]), 5.0)

    def schedule(self, plan: ModalityPlan) -> Schedule:
        """Return the noise levels."""
        return schedule_of(self.parts)

    @cached_property
    def factors(self) -> tuple[int, int]:
        """Return the frames (after the first) and the pixels along each edge of one latent cell."""
        config = self.parts.config("vae")
        return int(config["scale_factor_temporal"]), int(config["scale_factor_spatial"])

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes: whole groups of frames after the first, whole patches of latent cells."""
        patch = int(self.parts.config("transformer")["patch_size"][1])
        channels, default = self.info.latent_channels, (FRAMES, HEIGHT, WIDTH)
        return grouped_plan(request, FPS, default, channels, self.factors, patch)

    def text(self, prompt: str, negative: str | None, plan: ModalityPlan, device: torch.device) -> tuple[Row, Row]:
        """Return UMT5's hidden states, zero in the padding; the default negative is the empty text."""
        positive, other = (self._tokens(text, device) for text in (prompt, negative or ""))
        return {"tokens": positive}, {"tokens": other}

    def predict(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor], plan: ModalityPlan) -> Tensor:
        """Return the native output, each sample from the transformer for its noise level."""
        boundary = self.index.get("boundary_ratio")
        if boundary is None:
            return self._output("transformer", x, t, condition["tokens"])
        noisy = t >= boundary * self.parts.get("scheduler").config.num_train_timesteps
        out = torch.empty_like(x)
        for name, chosen in (("transformer", noisy), ("transformer_2", ~noisy)):
            if bool(chosen.any()):
                out[chosen] = self._output(name, x[chosen], t[chosen], condition["tokens"][chosen])
        return out

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the mean latents of frames, normalised."""
        vae = self.parts.get("vae")
        mean, std = by_channel(vae, media)
        latent: Tensor = vae.encode(media).latent_dist.mode()
        return (latent - mean) / std

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return frames of normalised latents."""
        vae = self.parts.get("vae")
        mean, std = by_channel(vae, latent)
        frames: Tensor = vae.decode(latent * std + mean).sample
        return frames

    def _output(self, name: str, x: Tensor, t: Tensor, tokens: Tensor) -> Tensor:
        if self.index.get("expand_timesteps"):
            # The model takes a time for every token, for image-to-video; here all are equal.
            cells = x.shape[2] * -(-x.shape[3] // 2) * -(-x.shape[4] // 2)
            t = t[:, None].expand(-1, cells)
        out: Tensor = self.parts.get(name)(hidden_states=x, timestep=t, encoder_hidden_states=tokens).sample
        return out

    def _tokens(self, text: str, device: torch.device) -> Tensor:
        tokens = tokens_of(self.parts, _cleaned(text), self.limits[0], device)
        hidden = self.parts.get("text_encoder")(tokens.input_ids, tokens.attention_mask)[0][0]
        real: Tensor = hidden.masked_fill(tokens.attention_mask[0, :, None] == 0, 0)
        return real


def _cleaned(text: str) -> str:
    """Return the text without HTML escapes and with single spaces, as in this model's training."""
    return " ".join(html.unescape(html.unescape(text)).split())


def build(label: str, options: ModelOptions, request: Request) -> DiffusersBackbone:
    """Build the backbone of a recipe."""
    parts = open_parts(label, options, ["WanPipeline"], ROLES)
    return DiffusersBackbone(Wan(parts, options, request), options)
