"""The first stage of a training: its clips and texts encoded once, into a cache that later trainings find again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.cache.content import Content, content_of, max_bad_of, part_of
from mmdisco_cli.cache.dataset import CachedData, cache_path, open_cached
from mmdisco_cli.cache.making import complete, is_complete, make_shards, skipped_lines
from mmdisco_cli.cache.mapped import MappedTensor
from mmdisco_cli.cache.reading import Cache, open_cache
from mmdisco_cli.cache.texts import EncodedTexts
from mmdisco_cli.cache.workers import workers_of
from mmdisco_cli.data.contract import Dataset, SplitDataset
from mmdisco_cli.data.opening import check_dataset, check_shapes, open_dataset
from mmdisco_cli.diffusion.backbone import Request, pads_with_zeros, release
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.training.banks import together
from mmdisco_cli.training.loop import Context
from mmdisco_cli.training.metrics import ProgressCallback

PART = "train"


@dataclass(frozen=True)
class Stored:
    """Rows of clips on disk: latents (N, ...) by modality, the number of each one's clip, and the encoded texts."""

    latents: Mapping[str, MappedTensor]
    clips: list[int]
    encoded: EncodedTexts | None


def check_data(recipe: Recipe) -> Any:
    """Return what `check_dataset` finds of data before models are loaded, None of a cache; errors as there."""
    return None if cache_path(_options(recipe)) else check_dataset(recipe)


def open_data(
    recipe: Recipe, request: Request, assembly: Assembly, context: Context, checked: Any = None
) -> SplitDataset:
    """Open the data of a recipe, or the cache of it that `data.path` names; `checked` is what `check_data` found.

    What its report says is said here, before anything is refused because of it.

    Raises:
        UsageError, DataError, PluginError: as for `open_dataset`, `check_shapes` and `open_cached`.
    """
    if (folder := cache_path(_options(recipe))) is not None:
        cached = open_cached(folder, assembly, _options(recipe))
        _say(cached.report, context)
        return cached
    counter = context.counter("reading files")
    dataset = open_dataset(recipe, request, assembly.modalities, counter, checked, kinds=assembly.kinds)
    _say(dataset.report, context)
    check_shapes(dataset.split("train"), assembly.modalities)
    return dataset


def _say(lines: Sequence[str], context: Context) -> None:
    for line in lines:
        context.say(line)


def stored_clips(assembly: Assembly, dataset: Dataset, count: int, context: Context) -> Stored:
    """Return the first `count` clips of a part of the data, encoded once; of a cache with 0 all.

    Raises:
        DataError: they cannot be written, or too many of them cannot be read.
        Stopped: a signal came; the shards made so far are kept.
    """
    if isinstance(dataset, CachedData):
        cache, part = dataset.cache, dataset.part or PART
    else:
        own = part_of(dataset, count, tuple(assembly.modalities), max_bad_of(context.recipe))
        cache, part = make_cache(content_of(assembly, {PART: own}), context), PART
    rows = cache.rows(part, count or None)
    return Stored(rows.latents, list(rows.clips), cache.encoded_texts(assembly.device))


def make_cache(content: Content, context: Context) -> Cache:
    """Return a cache of a content below the run's directory, made by all ranks together; errors as above."""
    folder, ranks = context.directory.banks / f"clips-{content.name}", context.ranks

    def make(report: ProgressCallback) -> None:
        if not is_complete(folder, content):
            workers = workers_of(_options(context.recipe))
            make_shards(folder, content, (ranks.rank, ranks.world), workers, report)

    together(make, f"encoding {' and '.join(content.plans)}", context)
    if ranks.first and not is_complete(folder, content):
        for line in skipped_lines(complete(folder, content)):
            context.say(line)
    context.wait()
    return open_cache(folder)


def release_encoders(assembly: Assembly, *encoded: EncodedTexts | None) -> None:
    """Free the codecs, and the text encoders where encoded texts can be put together without them."""
    even = all(texts is None or texts.even for texts in encoded)
    for base in assembly.bases:
        release(base.backbone, ("codec", "text") if even or pads_with_zeros(base.backbone) else ("codec",))


def _options(recipe: Recipe) -> Any:
    return recipe.data.options if recipe.data else None
