"""`mmdisco convert DATA CACHE --recipe R`: clips and their texts, encoded apart from the training that needs them."""

from collections.abc import Mapping
from pathlib import Path

from mmdisco_cli.assembly import Assembly, assemble, request_of
from mmdisco_cli.cache.content import Content, Part, content_of, max_bad_of, part_of
from mmdisco_cli.cache.dataset import cutting_of
from mmdisco_cli.cache.layout import HELDOUT
from mmdisco_cli.cache.making import Report, complete, is_complete, left_to_make, make_shards, skipped_lines
from mmdisco_cli.cache.manifest import Manifest, is_cache
from mmdisco_cli.cache.reading import Cache
from mmdisco_cli.cache.workers import workers_of
from mmdisco_cli.conversion.reading import is_safetensors
from mmdisco_cli.data.contract import Dataset, SplitDataset
from mmdisco_cli.data.opening import check_shapes, open_dataset
from mmdisco_cli.devices import DTYPES, choose_device
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.recipes.hints import command_line
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run import console
from mmdisco_cli.run.options import ConvertOptions
from mmdisco_cli.run.ranks import this_shard
from mmdisco_cli.run.signals import SignalFlag
from mmdisco_cli.training.metrics import Stages


def convert_clips(recipe: Recipe, options: ConvertOptions) -> None:
    """Encode the clips of a recipe into a cache, or one job's share of them, and print where it lies.

    Raises:
        UsageError, PluginError: the recipe cannot be built, or the source is not data.
        DataError: clips or weights cannot be used, or the folder holds another cache; what is whole is kept.
        Stopped: a signal came; what is whole is kept.
    """
    _require_data(options.source)
    share, stop = this_shard(options.shard), SignalFlag()
    with Stages(share.index == 0 or options.shard is not None) as stages, stop.listening():
        assembly = assemble(recipe, choose_device(), DTYPES[recipe.train.dtype], with_discriminator=False)
        dataset = _opened(recipe, assembly, lambda done, of: stages.of("reading files")(done, of, {}))
        content = content_of(assembly, _parts(recipe, dataset, tuple(assembly.modalities)), _cutting(recipe))

        def report(done: int, total: int) -> None:
            stages.of("encoding clips and texts")(done, total, {})
            if stop.received and done < total:
                stop.leave(f"with {done} of {total} clips and texts encoded")

        workers = workers_of(recipe.data.options if recipe.data else None)
        _make(options.destination, content, (share.index, share.count), workers, report)
    console.result(str(options.destination))


def _make(folder: Path, content: Content, share: tuple[int, int], workers: int, report: Report) -> None:
    """Make a share of a cache, and where that was the last one complete it."""
    if is_complete(folder, content):
        console.note(f"{folder}: is complete already")
        return
    make_shards(folder, content, share, workers, report)
    left, total = left_to_make(folder, content)
    if left:
        console.note(
            f"{folder}: {total - left} of {total} shards are there; the last job to finish completes the cache, or the "
            "same command without --shard"
        )
        return
    for line in _lines(folder, complete(folder, content)):
        console.note(line)


def _lines(folder: Path, manifest: Manifest) -> list[str]:
    clips = {name: len(part.rows) for name, part in manifest.parts.items()}
    size, total = Cache(folder, manifest).size, sum(clips.values())
    held = " and ".join(f"{count} {name}" for name, count in clips.items())
    texts = f", {len(manifest.texts)} texts" if manifest.encoded else ""
    how = command_line("mmdisco", "train", "--recipe", "RECIPE", "--set", f"data.path={folder}")
    return [
        *skipped_lines(manifest),
        f"{held} clips{texts}: {size / 1e6:.1f} MB, {size / max(total, 1) / 1e3:.1f} kB a clip",
        f"to train from it: {how}",
    ]


def _opened(recipe: Recipe, assembly: Assembly, progress: Report) -> SplitDataset:
    dataset = open_dataset(recipe, request_of(recipe), assembly.modalities, progress, kinds=assembly.kinds)
    check_shapes(dataset.split("train"), assembly.modalities)
    for line in dataset.report:
        console.note(line)
    return dataset


def _parts(recipe: Recipe, dataset: SplitDataset, modalities: tuple[str, ...]) -> Mapping[str, Part]:
    """Return what training with the recipe would encode: train.bank clips, by default all, and some held out."""
    max_bad = max_bad_of(recipe)
    train = dataset.split("train")
    parts = {"train": part_of(train, _count(recipe, train), modalities, max_bad)}
    try:
        return parts | {"heldout": part_of(dataset.split("heldout"), HELDOUT, modalities, max_bad)}
    except DataError as error:
        console.note(f"note: the cache has no held-out clips: {error}")
        return parts


def _count(recipe: Recipe, train: Dataset) -> int:
    count = recipe.train.bank or train.length
    if count is None:
        raise UsageError("train.bank: 0 of a data set without an end is not a number of clips to encode: give one")
    return count


def _cutting(recipe: Recipe) -> Mapping[str, object]:
    return cutting_of(recipe.data.options) if recipe.data else {}


def _require_data(source: Path) -> None:
    if is_cache(source):
        raise UsageError(f"{source}: is a cache already; a recipe names it as data.path")
    if source.is_file() and (source.suffix in (".pt", ".pth", ".ckpt") or is_safetensors(source)):
        raise UsageError(f"{source}: a checkpoint, which is converted without --recipe; with it, SOURCE is data")
