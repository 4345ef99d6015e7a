"""A text's tokens for an encoder that reads so many and no more: what it leaves out is said, as diffusers does."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from mmdisco_cli.run.console import warn
from mmdisco_diffusers.parts import Parts


def tokens_of(parts: Parts, text: str | list[str], length: int, device: torch.device, *, padded: bool = True) -> Any:
    """Return the tokens of a text, or of several, cut to the encoder's length and filled up to it where `padded`."""
    tokenizer = parts.get("tokenizer")
    for one in [text] if isinstance(text, str) else text:
        tell_cut(parts, one, length)
    padding = "max_length" if padded else False
    return tokenizer(text, padding=padding, max_length=length, truncation=True, return_tensors="pt").to(device)


def tell_cut(parts: Parts, text: str, length: int, number: str = "") -> None:
    """Warn, once, of what a tokenizer will leave out of a text; `number` is the ending of parts such as tokenizer_2."""
    cut = left_out(parts.get(f"tokenizer{number}"), text, length)
    if cut:
        _say(f"{parts.class_name(f'text_encoder{number}')} reads {length} tokens of a prompt, which leaves out {cut!r}")


def left_out(tokenizer: Any, text: str, length: int) -> str:
    """Return the end of a text that does not fit into so many tokens, its marks of beginning and end included."""
    # Not verbose: the tokenizer would complain of the very length that is to be found out.
    tokens = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids
    room = length - tokenizer.num_special_tokens_to_add()
    return str(tokenizer.decode(tokens[room:], skip_special_tokens=True)).strip() if len(tokens) > room else ""


@contextmanager
def told_here(pipeline: Any) -> Iterator[None]:
    """Keep a pipeline, and its tokenizers, from warning of the same in words of their own."""
    logs = [logging.getLogger(name) for name in (type(pipeline).__module__, "transformers.tokenization_utils_base")]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)


@cache
def _say(line: str) -> None:
    warn(line)
