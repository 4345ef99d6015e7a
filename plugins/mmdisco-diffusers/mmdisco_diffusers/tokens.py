"""Tokens of a text, with a warning where it is longer than the encoder takes, as in diffusers."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

from mmdisco_cli.run.console import warn
from mmdisco_diffusers.parts import Parts


def tokens_of(parts: Parts, text: str | list[str], length: int, device: torch.device, *, padded: bool = True) -> Any:
    """Return the tokens of a text, or of several, truncated to `length` and padded to it where `padded`."""
    tokenizer = parts.get("tokenizer")
    for one in [text] if isinstance(text, str) else text:
        warn_truncated(parts, one, length)
    padding = "max_length" if padded else False
    return tokenizer(text, padding=padding, max_length=length, truncation=True, return_tensors="pt").to(device)


def warn_truncated(parts: Parts, text: str, length: int, number: str = "") -> None:
    """Warn, once, of the part of a text that will be truncated; `number` is the suffix of parts such as tokenizer_2."""
    cut = truncated_text(parts.get(f"tokenizer{number}"), text, length)
    if cut:
        _warn_once(
            f"{parts.class_name(f'text_encoder{number}')} reads {length} tokens of a prompt, which leaves out {cut!r}"
        )


def truncated_text(tokenizer: Any, text: str, length: int) -> str:
    """Return the end of a text that does not fit into `length` tokens with the special ones."""
    # Not verbose: the tokenizer would warn of the length.
    tokens = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False).input_ids
    room = length - tokenizer.num_special_tokens_to_add()
    return str(tokenizer.decode(tokens[room:], skip_special_tokens=True)).strip() if len(tokens) > room else ""


@contextmanager
def without_own_warnings(pipeline: Any) -> Iterator[None]:
    """Silence a pipeline's and its tokenizers' own warnings of truncation inside the block."""
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
def _warn_once(line: str) -> None:
    warn(line)
