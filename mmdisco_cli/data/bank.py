"""A bank of latents: clips encoded once, kept on disk as shards, used by every training that needs the same ones."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

SHARD = 512


class Dataset(Protocol):
    """What training needs of a data set; `length` is None where it never ends."""

    length: int | None

    @property
    def fingerprint(self) -> str:
        """Name the exact clips."""

    def media(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, Tensor]:
        """Return the media of some clips by modality."""


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

    Shards already under `root` are read, missing ones are made, so that an interrupted run loses at most one.
    """
    key = hashlib.sha256(f"{dataset.fingerprint}:{modality}:{codec}".encode()).hexdigest()[:16]
    count = min(count, dataset.length) if dataset.length is not None else count
    shards = []
    for start in range(0, count, SHARD):
        indices = range(start, min(start + SHARD, count))
        path = root / key / f"{start:08d}-{len(indices)}.safetensors"
        if not path.exists():
            _write_shard(path, torch.cat([_encode(dataset, modality, i, encode) for i in _chunks(indices)]))
        shards.append(load_file(path)["latent"])
        if show:
            show(indices.stop, count)
    return torch.cat(shards)


def _encode(dataset: Dataset, modality: str, indices: Sequence[int], encode: Callable[[Tensor], Tensor]) -> Tensor:
    return encode(dataset.media(indices, (modality,))[modality]).half()


def _chunks(indices: range, size: int = 32) -> list[range]:
    return [indices[i : i + size] for i in range(0, len(indices), size)]


def _write_shard(path: Path, latent: Tensor) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    save_file({"latent": latent.contiguous()}, partial)
    os.replace(partial, path)
