"""The text encoder of Stable Diffusion and models derived from it."""

import torch
from torch import Tensor

from mmdisco_diffusers.parts import Parts
from mmdisco_diffusers.tokens import TextLimit, tokens_of

LIMIT = TextLimit()


def clip_tokens(parts: Parts, text: str, device: torch.device) -> Tensor:
    """Return CLIP's last hidden states (tokens, width) of one text, padded to the model's length."""
    encoder, tokens = parts.get("text_encoder"), tokens_of(parts, text, LIMIT, device)
    mask = tokens.attention_mask if getattr(encoder.config, "use_attention_mask", False) else None
    hidden: Tensor = encoder(tokens.input_ids, attention_mask=mask)[0][0]
    return hidden
