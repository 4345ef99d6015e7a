"""Where what lies in a cache: one folder, whose shards are named by what is in them.

key.json                      what the content depends on, written first
train/00000000-512.safetensors   latents of all modalities of some clips, by their numbers in the data set
texts/1f2e3d4c5b6a7988.safetensors   some encoded texts, named by the texts
cache.json                    what it holds, written last: without it the cache is half made
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmdisco_cli.data.naming import CACHE_FILES
from mmdisco_cli.run.files import fingerprint

FORMAT = 1
MANIFEST, KEY = CACHE_FILES
TEXTS = "texts"
MOST_ROWS = 512
"""Clips of a shard, at most."""
SHARD_BYTES = 256 << 20
"""What a shard takes in memory while it is made, about."""
TEXTS_A_SHARD = 64
CHUNK_ROWS, CHUNK_BYTES = 32, 64 << 20
"""What is read and encoded together, at most."""
HELDOUT = 256
"""Held-out clips that a training measures itself on, and so what a cache has of them, at most."""


@dataclass(frozen=True)
class Clips:
    """A shard of clips: those numbered `rows` of a part of the data."""

    part: str
    rows: range

    def path(self, folder: Path) -> Path:
        """Return where it lies in a cache."""
        return folder / self.part / f"{self.rows.start:08d}-{len(self.rows)}.safetensors"

    def chunks(self, size: int) -> list[range]:
        """Return its clips, some at a time."""
        return [self.rows[first : first + size] for first in range(0, len(self.rows), size)]


@dataclass(frozen=True)
class Texts:
    """A shard of encoded texts."""

    texts: tuple[str, ...]

    def path(self, folder: Path) -> Path:
        """Return where it lies in a cache."""
        name = fingerprint(json.dumps(self.texts, ensure_ascii=False))
        return folder / TEXTS / f"{name}.safetensors"


def clip_shards(part: str, count: int, size: int) -> list[Clips]:
    """Return the shards of `count` clips, `size` each."""
    return [Clips(part, range(start, min(start + size, count))) for start in range(0, count, size)]


def text_shards(texts: Sequence[str]) -> list[Texts]:
    """Return the shards of texts."""
    return [Texts(tuple(texts[i : i + TEXTS_A_SHARD])) for i in range(0, len(texts), TEXTS_A_SHARD)]


def rows_a_shard(shapes: Mapping[str, Sequence[int]]) -> int:
    """Return how many clips of these latent shapes a shard holds."""
    each = 2 * sum(map(math.prod, shapes.values()))
    return max(1, min(MOST_ROWS, SHARD_BYTES // max(each, 1)))


def rows_a_chunk(shapes: Mapping[str, Sequence[int]]) -> int:
    """Return how many clips of these media shapes are read together."""
    each = 4 * sum(map(math.prod, shapes.values()))
    return max(1, min(CHUNK_ROWS, CHUNK_BYTES // max(each, 1)))
