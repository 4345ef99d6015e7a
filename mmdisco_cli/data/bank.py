"""A bank of latents: clips encoded once, stored as shards on disk, and shared by trainings that use the same codec."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mmdisco_cli.data.contract import Dataset
from mmdisco_cli.errors import DataError
from mmdisco_cli.run.files import fingerprint
from mmdisco_cli.weights_file import write_tensors

SHARD = 512


def latent_bank(
    dataset: Dataset,
    modality: str,
    count: int,
    encode: Callable[[Tensor], Tensor],
    codec: str,
    root: Path,
    show: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Return the latents (count, ...) of the first `count` clips of one modality, in float16.

    Shards already under `root` are read, missing ones are made, so that an interrupted run loses at most one. `show`
    is called with the number of clips ready and their total, and may raise to stop.

    Raises:
        DataError: a shard cannot be written, or is damaged.
    """
    make_shards(dataset, modality, count, encode, codec, root, show)
    return torch.cat([read_shard(path)["latent"] for _, path in _shards(dataset, modality, count, codec, root)])


def make_shards(
    dataset: Dataset,
    modality: str,
    count: int,
    encode: Callable[[Tensor], Tensor],
    codec: str,
    root: Path,
    show: Callable[[int, int], None] | None = None,
    share: tuple[int, int] = (0, 1),
) -> None:
    """Make the missing shards of a bank; `share` is (rank, world): a rank makes every world-th shard."""
    shards = _shards(dataset, modality, count, codec, root)
    for indices, path in shards[share[0] :: share[1]]:
        if not path.exists():
            latent = torch.cat([_encode(dataset, modality, i, encode) for i in _chunks(indices)])
            write_shard(path, {"latent": latent})
        if show:
            show(indices.stop, shards[-1][0].stop)


def read_shard(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a shard; raise DataError where it is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not a readable shard ({error}); delete it, it will be made again") from error


def write_shard(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to `path`, whole or not at all; raise DataError where that is impossible."""
    write_tensors(path, tensors)


def shard_ranges(count: int) -> list[range]:
    """Return which clips each shard of a bank holds."""
    return [range(start, min(start + SHARD, count)) for start in range(0, count, SHARD)]


def _shards(dataset: Dataset, modality: str, count: int, codec: str, root: Path) -> list[tuple[range, Path]]:
    key = fingerprint(f"{dataset.fingerprint}:{modality}:{codec}")
    count = min(count, dataset.length) if dataset.length is not None else count
    return [(r, root / key / f"{r.start:08d}-{len(r)}.safetensors") for r in shard_ranges(count)]


def _encode(dataset: Dataset, modality: str, indices: Sequence[int], encode: Callable[[Tensor], Tensor]) -> Tensor:
    return encode(dataset.media(indices, (modality,))[modality]).half()


def _chunks(indices: range, size: int = 32) -> list[range]:
    return [indices[i : i + size] for i in range(0, len(indices), size)]
