"""The text encoder of the built-in base model: words of a caption to one vector, trained together with its denoiser."""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WORDS = 32
"""Words of a text that are read; what follows them is not."""
BUCKETS = 512
"""Rows of each of two tables. A word is the sum of a row of each, so that two words hardly ever share both."""
SALTS = (b"first:", b"second:")
WIDTH, DEPTH = 64, 2
SLOPES = (2.0, 1.0, 0.5, 0.1)
"""How fast the attention of each head falls with the distance of two words (ALiBi: Press et al., arXiv 2108.12409)."""
NEVER = -1e4


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

    Words attend to near ones first, without any position of their own, so that what belongs together is read together
    wherever it stands. Words that training never saw keep the values that their rows began with.
    """

    distance: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.words = nn.ModuleList(nn.Embedding(BUCKETS, WIDTH) for _ in SALTS)
        for table in self.words.parameters():
            nn.init.normal_(table, std=0.5)
        self.start = nn.Parameter(torch.randn(WIDTH) * 0.5)
        self.blocks = nn.ModuleList(WordBlock() for _ in range(DEPTH))
        self.head = nn.Linear(WIDTH, size)
        places = torch.arange(WORDS + 1)
        apart = (places[:, None] - places).abs() * torch.tensor(SLOPES)[:, None, None]
        self.register_buffer("distance", apart, persistent=False)

    def forward(self, ids: Tensor) -> Tensor:
        """Return the embeddings (B, size), each of zero mean and unit variance."""
        first, second = (table(ids[..., k]) for k, table in enumerate(self.words))
        tokens = torch.cat([self.start.expand(len(ids), 1, -1), first + second], 1)
        # The first token, which no word is, makes a text without words one of a token.
        there = F.pad(ids[..., 0] != 0, (1, 0), value=True)
        bias = torch.where(there, 0.0, NEVER)[:, None, None, :] - self.distance
        for block in self.blocks:
            tokens = block(tokens, bias)
        mean = (tokens * there[..., None]).sum(1) / there.sum(1, keepdim=True)
        embedding: Tensor = self.head(mean).float()
        return F.layer_norm(embedding, embedding.shape[-1:])


class WordBlock(nn.Module):
    """Pre-norm transformer block over the words of a text."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.merge = nn.Linear(WIDTH, WIDTH)
        self.up = nn.Linear(WIDTH, 2 * WIDTH)
        self.down = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Map tokens (B, N, WIDTH) to the same shape, with a `bias` (B, heads, N, N) of attention."""
        q, k, v = self.qkv(F.layer_norm(x, x.shape[-1:])).unflatten(-1, (3, len(SLOPES), -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        x = x + self.merge(attended.transpose(1, 2).flatten(2))
        mapped: Tensor = x + self.down(F.gelu(self.up(F.layer_norm(x, x.shape[-1:]))))
        return mapped


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
