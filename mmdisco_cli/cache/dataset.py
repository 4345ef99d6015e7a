"""A cache in the place of a data set: `data.path=CACHE` trains from it without any media."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.cache.content import as_json, models_key, models_of, prompts_of
from mmdisco_cli.cache.making import skipped_lines
from mmdisco_cli.cache.manifest import differing, is_cache
from mmdisco_cli.cache.reading import Cache, open_cache
from mmdisco_cli.errors import DataError
from mmdisco_cli.run.files import fingerprint

CUTTING = ("stride", "windows", "video", "audio", "caption", "caption_audio", "caption_video", "label", "split")
"""Options of a data set that decide what its clips and their texts are."""


@dataclass(frozen=True)
class CachedData:
    """The clips of a cache, or of one of its parts: `media` has none, what there is lies in `cache`.

    They are numbered as in the data that the cache was made of.
    """

    cache: Cache
    part: str = ""

    @property
    def length(self) -> int | None:
        """Return how many clips it was made of, those that could not be read among them."""
        return self.cache.holding(self.part or "train").clips

    @cached_property
    def fingerprint(self) -> str:
        """Name the exact clips, and what they were encoded by."""
        held = {name: [part.clips, part.lost] for name, part in self.cache.manifest.parts.items()}
        return fingerprint(f"cache:{self.cache.manifest.key}:{held}:{self.part}")

    @property
    def report(self) -> Sequence[str]:
        """Return a line for each clip that could not be read when the cache was made."""
        return skipped_lines(self.cache.manifest)

    def split(self, part: str) -> "CachedData":
        """Return the `train` or `heldout` clips; raise DataError where the cache has none."""
        if part not in self.cache.manifest.parts or not self.cache.holding(part).rows:
            raise DataError(f"{self.cache.folder}: a cache without {part} clips")
        return CachedData(self.cache, part)

    def media(self, indices: Sequence[int], modalities: Sequence[str]) -> Mapping[str, Tensor]:
        """Raise DataError: media are what a cache does without."""
        raise DataError(f"{self.cache.folder}: a cache holds latents, not the media that they were encoded from")

    def captions(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, list[str]]:
        """Return the text of each clip by modality, empty where there is none."""
        texts = self._texts
        return {m: [texts[m][index] if m in texts else "" for index in indices] for m in modalities}

    def labels(self, indices: Sequence[int]) -> list[str]:
        """Return the class of each clip, empty where it has none."""
        labels = self.cache.holding(self.part or "train").labels
        return [labels[index] if labels else "" for index in indices]

    def sources(self, indices: Sequence[int]) -> list[str]:
        """Return what names the recording that each clip was cut from."""
        sources = self.cache.holding(self.part or "train").sources
        return [str(sources[index] if sources else index) for index in indices]

    @cached_property
    def _texts(self) -> dict[str, list[str]]:
        return self.cache.texts_of(self.part or "train")


def cache_path(options: Any) -> Path | None:
    """Return the cache that a data set's options name, None where they name none."""
    path = getattr(options, "path", None)
    return Path(path) if isinstance(path, str) and is_cache(path) else None


def cutting_of(options: Any) -> dict[str, Any]:
    """Return what of a data set's options decides what its clips and their texts are, where it is not the default."""
    chosen = {field.name: (getattr(options, field.name), field.default) for field in fields(options)}
    return {name: value for name, (value, default) in chosen.items() if name in CUTTING and value != default}


def open_cached(folder: Path, assembly: Assembly, options: Any) -> CachedData:
    """Open a cache for the models and options of a recipe.

    Raises:
        DataError: it is half made or damaged, or of other models, windows or columns, which are named.
    """
    cache = open_cache(folder)
    wanted = {**models_key(models_of(assembly), assembly.modalities), "options": cutting_of(options)}
    wanted = as_json(wanted | ({"prompts": prompts_of(assembly)} if cache.manifest.encoded else {}))
    if wrong := differing(cache.manifest.key, wanted):
        raise DataError(
            f"{folder}: a cache of {wrong}: make one for this recipe with `mmdisco convert DATA CACHE --recipe "
            "RECIPE`, or change the recipe"
        )
    return CachedData(cache)
