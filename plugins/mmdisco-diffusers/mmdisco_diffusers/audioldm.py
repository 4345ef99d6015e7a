"""AudioLDM: a U-Net over mel latents, conditioned on the prompt's CLAP embedding."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_diffusers.backbone import DiffusersBackbone
from mmdisco_diffusers.mel_model import MelModel
from mmdisco_diffusers.opening import open_parts
from mmdisco_diffusers.options import MelOptions
from mmdisco_diffusers.parts import Parts, Roles
from mmdisco_diffusers.prompts import Row
from mmdisco_diffusers.tokens import TextLimit, tokens_of

ROLES = Roles(("unet",), ("vae", "vocoder"), ("text_encoder",))
LIMIT = TextLimit()


def build(label: str, options: MelOptions, request: Request) -> DiffusersBackbone:
    """Build the backbone of a recipe."""
    parts = open_parts(label, options, ["AudioLDMPipeline"], ROLES)
    width = int(parts.config("text_encoder").get("projection_dim", 512))
    model = MelModel(parts, options, ROLES, "class", width, 2.5, _encode_prompt, _evaluate, (LIMIT,))
    return DiffusersBackbone(model, options)


def _encode_prompt(parts: Parts, prompt: str, negative: str | None, device: torch.device) -> tuple[Row, Row]:
    """Return CLAP's normalised text embedding; the default negative is that of the empty text."""
    tokens = tokens_of(parts, [prompt, negative or ""], LIMIT, device)
    found = parts.get("text_encoder")(tokens.input_ids, attention_mask=tokens.attention_mask)
    positive, other = F.normalize(found.text_embeds, dim=-1)
    return {"class": positive}, {"class": other}


def _evaluate(unet: Any, x: Tensor, t: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
    out: Tensor = unet(x, t, encoder_hidden_states=None, class_labels=condition["class"]).sample
    return out
