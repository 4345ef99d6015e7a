"""The text encoder of the built-in base model: words of a caption to one vector, trained together with its denoiser."""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdisco_cli.blocks import TransformerBlock

WORDS = 32
"""Words of a text that are read; what follows them is not."""
BUCKETS = 512
"""Rows of each of two tables. A word is the sum of a row of each, so that two words hardly ever share both."""
SALTS = (b"first:", b"second:")
HEADS, DEPTH = 4, 2


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation."""
    return re.findall(r"\w+", text.casefold())


def token_ids(text: str) -> Tensor:
    """Return the rows (WORDS, 2) of a text's words in both tables; row 0 stands for no word."""
    rows = [[_bucket(salt, word) for salt in SALTS] for word in words_of(text)[:WORDS]]
    return torch.tensor(rows + [[0, 0]] * (WORDS - len(rows)))


def _bucket(salt: bytes, word: str) -> int:
    return 1 + zlib.crc32(salt + word.encode("utf-8", "replace")) % (BUCKETS - 1)


class TextEncoder(nn.Module):
    """Map token ids (B, WORDS, 2) to embeddings (B, size) by a small transformer; the empty text has one as well.

    All texts are of one length, the places after their last word being tokens of their own, so no mask is needed. Words
    that training never saw keep the small values that their rows began with.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        width = max(2 * size // HEADS, 1) * HEADS
        self.words = nn.ModuleList(nn.Embedding(BUCKETS, width) for _ in SALTS)
        self.position = nn.Parameter(torch.randn(WORDS, width) * 0.1)
        self.blocks = nn.ModuleList(TransformerBlock(width, HEADS) for _ in range(DEPTH))
        self.head = nn.Linear(width, size)
        for table in self.words.parameters():
            nn.init.normal_(table, std=0.3)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the embeddings (B, size), each of about unit variance."""
        first, second = (table(ids[..., k]) for k, table in enumerate(self.words))
        tokens = first + second + self.position
        unmodulated = tokens.new_zeros(1, 6, tokens.shape[-1])
        for block in self.blocks:
            tokens = block(tokens, unmodulated)
        mean: Tensor = self.head(tokens.mean(1)).float()
        return F.layer_norm(mean, mean.shape[-1:])


@dataclass(frozen=True)
class TextBank:
    """The captions of N clips as an encoder reads them; a share `dropout` of rows sees the empty text, as CFG needs."""

    texts: Sequence[str]
    dropout: float

    @cached_property
    def ids(self) -> Tensor:
        """Return the token ids (N, WORDS, 2) of all captions."""
        known = {text: token_ids(text) for text in dict.fromkeys(self.texts)}
        return torch.stack([known[text] for text in self.texts])

    def of(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return the token ids (B, WORDS, 2) of the clips `rows` (B,)."""
        dropped = torch.rand(len(rows), generator=generator) < self.dropout
        return torch.where(dropped[:, None, None], token_ids(""), self.ids[rows])
