"""AudioLDM 2: a U-Net over mel latents, conditioned on T5 and on a language model's continuation of CLAP and T5."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_diffusers.backbone import DiffusersBackbone
from mmdisco_diffusers.mel_model import MelModel
from mmdisco_diffusers.opening import open_parts
from mmdisco_diffusers.options import MelOptions
from mmdisco_diffusers.parts import Parts, Roles
from mmdisco_diffusers.prompts import Row
from mmdisco_diffusers.tokens import TextLimit, warn_truncated, without_own_warnings

ROLES = Roles(("unet",), ("vae", "vocoder"), ("text_encoder", "text_encoder_2", "projection_model", "language_model"))
TOKENIZERS = ("tokenizer", "tokenizer_2")
LIMITS = (TextLimit(), TextLimit(number="_2"))


def build(label: str, options: MelOptions, request: Request) -> DiffusersBackbone:
    """Build the backbone of a recipe."""
    # Older copies on the hub name a language model without the method that their own pipeline calls.
    classes = {"language_model": "GPT2LMHeadModel"}
    parts = open_parts(label, options, ["AudioLDM2Pipeline"], ROLES, classes)
    width = int(parts.config("language_model").get("n_embd", 768))
    model = MelModel(parts, options, ROLES, "generated", width, 3.5, _encode_prompt, _evaluate, LIMITS)
    return DiffusersBackbone(model, options)


def _encode_prompt(parts: Parts, prompt: str, negative: str | None, device: torch.device) -> tuple[Row, Row]:
    """Return the three conditions; the negative is padded to the prompt's length, as in training."""
    from diffusers import AudioLDM2Pipeline

    absent = dict.fromkeys(("vae", "unet", "vocoder", "scheduler", "feature_extractor"))
    pipeline = AudioLDM2Pipeline(**absent, **{name: parts.get(name) for name in (*ROLES.text, *TOKENIZERS)})
    for text in (prompt, negative or ""):
        for limit in LIMITS:
            warn_truncated(parts, text, limit)
    pipeline.generate_language_model = partial(generate, pipeline.language_model)
    with without_own_warnings(pipeline):
        tokens, mask, generated = pipeline.encode_prompt(prompt, device, 1, True, negative_prompt=negative)
    rows = [{"generated": generated[i], "tokens": tokens[i], "mask": mask[i].long()} for i in (1, 0)]
    return rows[0], rows[1]


def generate(model: Any, inputs_embeds: Tensor, attention_mask: Tensor, max_new_tokens: int | None = None) -> Tensor:
    """Return the hidden states (B, N, D) that a language model appends one by one to embeddings (B, T, D).

    `attention_mask` (B, T) is 1 where there is a token. N is `max_new_tokens`, or the model's own if that is None.
    The pipeline's own loop uses an attention cache whose API depends on the release of transformers. This one uses
    none: the little that it recomputes is spent once for each prompt.
    """
    count = int(model.config.max_new_tokens if max_new_tokens is None else max_new_tokens)
    states, mask = inputs_embeds, attention_mask
    for _ in range(count):
        last = model.base_model(inputs_embeds=states, attention_mask=mask, use_cache=False).last_hidden_state[:, -1:]
        states, mask = torch.cat([states, last], 1), torch.cat([mask, mask.new_ones(len(mask), 1)], 1)
    return states[:, -count:]


def _evaluate(unet: Any, x: Tensor, t: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
    out: Tensor = unet(
        x,
        t,
        encoder_hidden_states=condition["generated"],
        encoder_hidden_states_1=condition["tokens"],
        encoder_attention_mask_1=condition["mask"],
    ).sample
    return out
