"""What the transformers of ImageBind and Synchformer have in common, under names of our own."""

import re
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Self-attention over (B, N, D); `extra` adds one learnt key and value, which everything may look at."""

    def __init__(self, dimension: int, heads: int, *, extra: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dimension, 3 * dimension)
        self.proj = nn.Linear(dimension, dimension)
        self.extra = nn.Parameter(torch.zeros(2, dimension)) if extra else None

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, N, D)."""
        q, k, v = self.qkv(x).chunk(3, -1)
        if self.extra is not None:
            k, v = (torch.cat([y, one.expand(len(x), 1, -1)], 1) for y, one in zip((k, v), self.extra, strict=True))
        found: Tensor = self.proj(attend(q, k, v, self.heads))
        return found


class Block(nn.Module):
    """Attention and two layers of four times the width, each normalised before and added (Xiong et al., 2020)."""

    def __init__(self, dimension: int, heads: int, eps: float, *, extra: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(dimension, eps) for _ in range(2))
        self.attn = Attention(dimension, heads, extra=extra)
        self.fc1, self.fc2 = nn.Linear(dimension, 4 * dimension), nn.Linear(4 * dimension, dimension)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, N, D)."""
        x = x + self.attn(self.norm1(x))
        found: Tensor = x + self.fc2(F.gelu(self.fc1(self.norm2(x))))
        return found


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Return what queries (..., N, D) find among keys and values (..., M, D)."""
    split = (x.unflatten(-1, (heads, -1)).transpose(-2, -3) for x in (q, k, v))
    return F.scaled_dot_product_attention(*split).transpose(-2, -3).flatten(-2)


def renamed(state: Mapping[str, Tensor], rules: Sequence[tuple[str, str]]) -> dict[str, Tensor]:
    """Return tensors under new names: the first pattern that fits a whole name decides, and what none fits is left out.

    A name that begins with `qkv:N:` is part N of three that are put one below the other.
    """
    found: dict[str, Tensor] = {}
    thirds: dict[str, list[Tensor]] = {}
    for name, tensor in sorted(state.items(), key=lambda item: _order(item[0], rules)):
        new = _renamed(name, rules)
        if new is None:
            continue
        if new.startswith("qkv:"):
            thirds.setdefault(new[6:], []).append(tensor)
        else:
            found[new] = tensor
    return found | {name: torch.cat(parts) for name, parts in thirds.items()}


def _order(name: str, rules: Sequence[tuple[str, str]]) -> str:
    return _renamed(name, rules) or ""


def _renamed(name: str, rules: Sequence[tuple[str, str]]) -> str | None:
    for pattern, new in rules:
        fits = re.fullmatch(pattern, name)
        if fits:
            return fits.expand(new)
    return None
