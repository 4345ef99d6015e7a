"""Banks of latents: clips encoded, and fakes generated, once; kept on disk in shards and reused by every training.

All ranks make a bank together: each takes its share of the shards, then everyone reads the whole.
"""

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.data.bank import latent_bank, make_shards, read_shard, shard_ranges, write_shard
from mmdisco_cli.data.contract import Dataset
from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.recipes.schema import Recipe, to_plain
from mmdisco_cli.run.files import fingerprint, make_directory, write_json
from mmdisco_cli.sampling.draw import draw as draw_samples
from mmdisco_cli.training.loop import Context
from mmdisco_cli.training.metrics import ProgressCallback
from mmdisco_cli.training.pairing import Captions

SEED_OFFSET = 1 << 32
"""Added to the training seed, so that no sample a user draws begins with the noise of a fake."""


def real_banks(assembly: Assembly, dataset: Dataset, count: int, context: Context) -> State:
    """Return the latents (count, ...) of every modality, row by row of the same clips; errors as for `shared_bank`."""
    found: State = {}
    for base in assembly.bases:
        codec = f"{base.backbone.info.fingerprint}:{base.plan}"
        for m in base.plan.modalities:
            found[m] = shared_bank(dataset, m, count, partial(_encoded, assembly, m), codec, context)
    return found


def _encoded(assembly: Assembly, modality: str, media: Tensor) -> Tensor:
    return assembly.encode({modality: media})[modality].cpu()


def shared_bank(
    dataset: Dataset, modality: str, count: int, encode: Callable[[Tensor], Tensor], codec: str, context: Context
) -> Tensor:
    """Return the latents (count, ...) of `latent_bank`, made by all ranks together.

    Raises:
        DataError: as for `latent_bank`.
        Stopped: a signal came; the shards made so far are kept.
    """
    root, share = context.directory.banks, (context.ranks.rank, context.ranks.world)

    def make(report: ProgressCallback) -> None:
        make_shards(dataset, modality, count, encode, codec, root, report, share)

    _together(make, f"encoding {modality}", context)
    return latent_bank(dataset, modality, count, encode, codec, root)


def generated_bank(
    assembly: Assembly, count: int, context: Context, captions: Captions | None = None, first: int = 0
) -> State:
    """Return samples of the base models alone, (count, ...) a modality in float16, one for each of `count` captions.

    They are made from the noise of the samples from number `first` on.

    Raises:
        DataError: a shard cannot be written, or is damaged.
        Stopped: a signal came; the shards made so far are kept.
    """
    recipe, ranks = _with_fake_cfg(context.recipe, assembly) if captions else context.recipe, context.ranks
    folder = context.directory.banks / f"generated-{_key(assembly, recipe, captions, first)}"
    shards = [(indices, folder / f"{indices.start:08d}-{len(indices)}.safetensors") for indices in shard_ranges(count)]

    def make(report: ProgressCallback) -> None:
        if captions and ranks.first:
            make_directory(folder)
            write_json(folder / "captions.json", {"texts": captions.texts, "labels": captions.labels})
        for indices, path in shards[ranks.rank :: ranks.world]:
            if not path.exists():
                write_shard(path, _samples(assembly, recipe, indices, captions, first))
            report(indices.stop, count)

    _together(make, "generating fakes", context)
    parts = [read_shard(path) for _, path in shards]
    return {m: torch.cat([part[m] for part in parts]) for m in assembly.shapes}


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
        "coupling": assembly.coupling,
        "dtype": str(assembly.dtype),
        "seed": recipe.train.seed,
        **{key: sample[key] for key in recipe.sample.solver_keys},
        **({"captions": captions.fingerprint} if captions else {}),
        **({"first": first} if first else {}),
    }
    return fingerprint(json.dumps(content, sort_keys=True))


class _Interrupted(Exception):  # noqa: N818 - the ranks still have to agree on it
    """A signal came between two shards."""


def _together(make: Callable[[ProgressCallback], None], title: str, context: Context) -> None:
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
