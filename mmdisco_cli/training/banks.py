"""Fakes that the base models generate once: kept on disk in shards and reused by every training.

All ranks make them together: each takes its share of the shards, then everyone reads the whole.
"""

import contextlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.cache.layout import clip_shards, rows_a_shard
from mmdisco_cli.cache.mapped import MappedTensor, Mappings, read_shard
from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.recipes.schema import Recipe, to_plain
from mmdisco_cli.run.files import fingerprint, make_directory, write_json
from mmdisco_cli.sampling.draw import draw as draw_samples
from mmdisco_cli.training.loop import Context
from mmdisco_cli.training.metrics import ProgressCallback
from mmdisco_cli.training.pairing import Captions
from mmdisco_cli.weights_file import write_tensors

SEED_OFFSET = 1 << 32
"""Added to the training seed, so that no sample a user draws begins with the noise of a fake."""


def generated_bank(
    assembly: Assembly, count: int, context: Context, captions: Captions | None = None, first: int = 0
) -> Mapping[str, MappedTensor]:
    """Return samples of the base models alone, (count, ...) a modality in float16, one for each of `count` captions.

    They stay on disk, and are made from the noise of the samples from number `first` on.

    Raises:
        DataError: a shard cannot be written, or is damaged.
        Stopped: a signal came; the shards made so far are kept.
    """
    recipe, ranks = _with_fake_cfg(context.recipe, assembly) if captions else context.recipe, context.ranks
    folder = context.directory.banks / f"generated-{_key(assembly, recipe, captions, first)}"
    size = rows_a_shard(assembly.shapes)
    shards = [(shard.rows, shard.path(folder.parent)) for shard in clip_shards(folder.name, count, size)]

    def make(report: ProgressCallback) -> None:
        if captions and ranks.first:
            make_directory(folder)
            write_json(folder / "captions.json", {"texts": captions.texts, "labels": captions.labels})
        for indices, path in shards[ranks.rank :: ranks.world]:
            if not path.exists():
                write_tensors(path, _samples(assembly, recipe, indices, captions, first))
            report(indices.stop, count)

    together(make, "generating fakes", context)
    parts, mappings = [read_shard(path) for _, path in shards], Mappings()
    return {m: MappedTensor(parts, m, mappings) for m in assembly.shapes}


def _with_fake_cfg(recipe: Recipe, assembly: Assembly) -> Recipe:
    cfg = dict.fromkeys(assembly.shapes, recipe.train.fake_cfg)
    return replace(recipe, sample=replace(recipe.sample, cfg=cfg))


def _samples(assembly: Assembly, recipe: Recipe, indices: range, captions: Captions | None, first: int) -> State:
    def latents(part: range) -> State:
        numbers = range(first + part.start, first + part.stop)
        prompts = {m: texts[part.start : part.stop] for m, texts in captions.texts.items()} if captions else ()
        return draw_samples(assembly, recipe.sample, seed, numbers, prompts=prompts, independent=True).latents

    size, seed = recipe.sample.batch_size, SEED_OFFSET + recipe.train.seed
    parts = [latents(indices[i : i + size]) for i in range(0, len(indices), size)]
    return {m: torch.cat([part[m].half().cpu() for part in parts]) for m in assembly.shapes}


def _key(assembly: Assembly, recipe: Recipe, captions: Captions | None, first: int) -> str:
    sample = to_plain(recipe.sample)
    content = {
        "backbones": assembly.fingerprints,
        "shapes": {m: list(shape) for m, shape in assembly.shapes.items()},
        "coupling": str(assembly.coupling),
        "dtype": str(assembly.dtype),
        "seed": recipe.train.seed,
        **{key: sample[key] for key in recipe.sample.solver_keys},
        **({"captions": captions.fingerprint} if captions else {}),
        **({"first": first} if first else {}),
    }
    return fingerprint(json.dumps(content, sort_keys=True))


class _Interrupted(Exception):  # noqa: N818 - the ranks still have to agree on it
    """A signal came between two shards."""


def together(make: Callable[[ProgressCallback], None], title: str, context: Context) -> None:
    """Run every rank's share of a long preparation, and wait for all; raise Stopped on all where one has to stop.

    `make` calls what it is given after each shard.
    """
    count = context.counter(title)

    def report(done: int, total: int) -> None:
        count(done, total)
        if context.stop.received and done < total:
            raise _Interrupted

    with contextlib.suppress(_Interrupted):
        make(report)
    if context.must_stop():  # also the point where they wait for one another
        context.stop.leave(f"while {title}")
