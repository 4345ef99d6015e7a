"""Generated fakes: samples of the base models alone, made once, kept on disk as shards and reused."""

import json
from pathlib import Path

import torch

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.data.bank import read_shard, shard_ranges, write_shard
from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.recipes.schema import SampleConfig, to_plain
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.run.files import fingerprint
from mmdisco_cli.sampling.draw import draw
from mmdisco_cli.training.banks import Show, together
from mmdisco_cli.training.signals import StopFlag

DEFAULT_COUNT = 4096
"""How many are made where the recipe draws its real clips afresh and so names no number."""
SEED_OFFSET = 1 << 32
"""Added to the training seed, so that no sample a user draws begins with the noise of a fake."""


def generated_bank(
    assembly: Assembly,
    config: SampleConfig,
    seed: int,
    count: int,
    root: Path,
    ranks: Ranks,
    stop: StopFlag,
    show: Show,
) -> State:
    """Return `count` samples of the base models alone, (count, ...) a modality in float16.

    Raises:
        DataError: a shard cannot be written, or is damaged.
        Stopped: a signal came; the shards made so far are kept.
    """
    count = count or DEFAULT_COUNT
    folder = root / f"generated-{_key(assembly, config, seed)}"
    shards = [(indices, folder / f"{indices.start:08d}-{len(indices)}.safetensors") for indices in shard_ranges(count)]

    def make(heard: Show) -> None:
        for indices, path in shards[ranks.rank :: ranks.world]:
            if not path.exists():
                write_shard(path, _samples(assembly, config, seed, indices))
            heard(indices.stop, count)

    together(make, ranks, stop, "while generating fakes", show)
    parts = [read_shard(path) for _, path in shards]
    return {m: torch.cat([part[m] for part in parts]) for m in assembly.shapes}


def _samples(assembly: Assembly, config: SampleConfig, seed: int, indices: range) -> State:
    size = config.batch_size
    parts = [
        draw(assembly, config, SEED_OFFSET + seed, indices[i : i + size], independent=True).latents
        for i in range(0, len(indices), size)
    ]
    return {m: torch.cat([part[m].half().cpu() for part in parts]) for m in assembly.shapes}


def _key(assembly: Assembly, config: SampleConfig, seed: int) -> str:
    sample = to_plain(config)
    content = {
        "backbones": assembly.fingerprints,
        "shapes": {m: list(shape) for m, shape in assembly.shapes.items()},
        "coupling": assembly.coupling,
        "dtype": str(assembly.dtype),
        "seed": seed,
        **{key: sample[key] for key in config.solver_keys},
    }
    return fingerprint(json.dumps(content, sort_keys=True))
