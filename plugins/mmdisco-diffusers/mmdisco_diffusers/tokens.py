"""Tokens of a text, with a warning where it is longer than the encoder takes, as in diffusers."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from mmdisco_cli.diffusion.backbone import Unread
from mmdisco_cli.run.console import warn
from mmdisco_diffusers.parts import Parts

CHUNK = 1024
_said: set[str] = set()
"""Warnings that were given, or that are counted elsewhere."""


def _own(length: int) -> int:
    return length


def _plain(text: str) -> str:
    return text


@dataclass(frozen=True)
class TextLimit:
    """How much one text encoder of a pipeline reads of a text.

    `tokens` returns how many tokens, special ones included, from what its tokenizer says (`model_max_length`);
    `prepared` is what the pipeline does to a text first. `number` is the suffix of parts such as tokenizer_2.
    """

    tokens: Callable[[int], int] = _own
    number: str = ""
    prepared: Callable[[str], str] = _plain

    def length(self, parts: Parts) -> int:
        """Return how many tokens are read."""
        return self.tokens(int(self.tokenizer(parts).model_max_length))

    def tokenizer(self, parts: Parts) -> Any:
        """Return the encoder's tokenizer."""
        return parts.get(f"tokenizer{self.number}")

    def warning(self, parts: Parts, cut: str) -> str:
        """Return the warning of the end of a text that is not read."""
        encoder, length = parts.class_name(f"text_encoder{self.number}"), self.length(parts)
        return f"{encoder} reads {length} tokens of a prompt, which leaves out {cut!r}"


def fixed(tokens: int) -> Callable[[int], int]:
    """Return a number of tokens that does not depend on the tokenizer."""
    return lambda own: tokens


def tokens_of(
    parts: Parts, text: str | list[str], limit: TextLimit, device: torch.device, *, padded: bool = True
) -> Any:
    """Return the tokens of a text, or of several, truncated to a limit and padded to it where `padded`."""
    tokenizer, length = limit.tokenizer(parts), limit.length(parts)
    for one in [text] if isinstance(text, str) else text:
        warn_truncated(parts, one, limit)
    padding = "max_length" if padded else False
    return tokenizer(text, padding=padding, max_length=length, truncation=True, return_tensors="pt").to(device)


def warn_truncated(parts: Parts, text: str, limit: TextLimit) -> None:
    """Warn, once, of the part of a text, as prepared, that will be truncated."""
    (cut,) = truncated_texts(limit.tokenizer(parts), [text], limit.length(parts))
    line = limit.warning(parts, cut)
    if cut and line not in _said:
        _said.add(line)
        warn(line)


def unread(parts: Parts, texts: Sequence[str], limits: Sequence[TextLimit]) -> list[Unread | None]:
    """Return for each text what the encoder that reads least leaves out of it; later no warning is given of it."""
    found: list[Unread | None] = [None] * len(texts)
    for limit in limits:
        length = limit.length(parts)
        for place, cut in enumerate(truncated_texts(limit.tokenizer(parts), list(map(limit.prepared, texts)), length)):
            if cut:
                _said.add(limit.warning(parts, cut))
                before = found[place]
                found[place] = before if before and len(before.text) >= len(cut) else Unread(length, cut)
    return found


def truncated_texts(tokenizer: Any, texts: Sequence[str], length: int) -> list[str]:
    """Return the end of each text that does not fit into `length` tokens with the special ones, empty where it does."""
    room = length - tokenizer.num_special_tokens_to_add()
    found = []
    for start in range(0, len(texts), CHUNK):
        # Not verbose: the tokenizer would warn of the length.
        part = tokenizer(texts[start : start + CHUNK], add_special_tokens=False, truncation=False, verbose=False)
        found += [_decoded(tokenizer, ids[room:]) if len(ids) > room else "" for ids in part.input_ids]
    return found


def _decoded(tokenizer: Any, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()


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
