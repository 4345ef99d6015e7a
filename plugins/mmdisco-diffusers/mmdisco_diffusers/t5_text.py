"""T5's hidden states for models that take the attention mask."""

import torch

from mmdisco_diffusers.parts import Parts
from mmdisco_diffusers.prompts import Row
from mmdisco_diffusers.tokens import TextLimit, tokens_of


def t5_row(
    parts: Parts, text: str, limit: TextLimit, device: torch.device, *, masked: bool, empty: bool = False
) -> Row:
    """Return T5's hidden states (length, width) and their mask (length,), 1 for text.

    `masked` masks the padding in T5 itself; `empty` masks all tokens of an empty text.
    """
    tokens = tokens_of(parts, text, limit, device)
    ids, mask = tokens.input_ids, tokens.attention_mask
    if empty and not text:
        ids, mask = torch.zeros_like(ids), torch.zeros_like(mask)
    hidden = parts.get("text_encoder")(ids, attention_mask=mask if masked else None)[0]
    return {"tokens": hidden[0], "mask": mask[0].long()}
