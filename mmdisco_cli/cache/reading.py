"""A cache as training reads it: rows of latents, what is said of each, and encoded texts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from mmdisco_cli.cache.layout import MANIFEST
from mmdisco_cli.cache.manifest import Holding, Manifest, read_manifest
from mmdisco_cli.cache.mapped import MappedTensor, Mappings, read_shard
from mmdisco_cli.cache.texts import EncodedTexts
from mmdisco_cli.errors import DataError


@dataclass(frozen=True)
class Rows:
    """The rows of a part: latents (N, ...) by modality, and the number of each row's clip in the data set."""

    latents: Mapping[str, MappedTensor]
    clips: Sequence[int]


@dataclass(frozen=True)
class Cache:
    """A whole cache in a folder."""

    folder: Path
    manifest: Manifest

    def rows(self, part: str, count: int | None = None) -> Rows:
        """Return those of the first `count` clips of a part, by default of all.

        Raises:
            DataError: none is there, or a shard is missing or damaged.
        """
        held = self.manifest.parts[part]
        numbers = [row for row in held.rows if count is None or row < count]
        if not numbers:
            raise DataError(f"{self.folder}: holds no clip of {part}")
        shards, mappings = [read_shard(s.path(self.folder)) for s in self.manifest.clip_shards(part)], Mappings()
        latents = {m: MappedTensor(shards, m, mappings, len(numbers)) for m in self.manifest.shapes}
        return Rows(latents, numbers)

    def texts_of(self, part: str) -> dict[str, list[str]]:
        """Return the text of each clip of a part by modality, also of those that are lost."""
        held, texts = self.holding(part), self.manifest.texts
        return {m: [texts[place] for place in places] for m, places in held.texts.items()}

    def holding(self, part: str) -> Holding:
        """Return what there is of a part."""
        return self.manifest.parts[part]

    def encoded_texts(self, device: torch.device) -> EncodedTexts | None:
        """Return its encoded texts, None where no model reads any."""
        if not self.manifest.encoded:
            return None
        shards = self.manifest.text_shards()
        return EncodedTexts([(shard.texts, read_shard(shard.path(self.folder))) for shard in shards], device)

    @cached_property
    def size(self) -> int:
        """Return the bytes of its shards."""
        return sum(shard.path(self.folder).stat().st_size for shard in self.manifest.shards())


def open_cache(folder: Path) -> Cache:
    """Open a whole cache.

    Raises:
        DataError: it is half made, damaged or none at all.
    """
    found = read_manifest(folder)
    if found is None:
        raise DataError(
            f"{folder}: a cache that is half made (it has no {MANIFEST}): `mmdisco convert` with the data and the "
            "recipe that it was begun with goes on and completes it"
        )
    return Cache(folder, found)
