"""Rows of tensors that lie in shards on disk, read through mappings of the files: memory does not grow with them."""

import json
import math
import mmap
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdisco_cli.errors import DataError

METADATA = "__metadata__"
OPEN = 128
"""Shards that are mapped at once: each holds a file open."""
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """Where a tensor (N, ...) lies in its file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def row_bytes(self) -> int:
        """Return what a row takes."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize


@dataclass(frozen=True)
class Shard:
    """A safetensors file of rows: its tensors by name, and what it says of itself."""

    path: Path
    tensors: dict[str, Place]
    about: dict[str, str]


def read_shard(path: Path) -> Shard:
    """Return what lies where in a safetensors file; raise DataError where it is damaged or not there."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            size = path.stat().st_size
            if length > size:
                raise ValueError("cut off")
            header = json.loads(file.read(length))
            about = dict(header.pop(METADATA, {}))
            tensors = {name: _place(entry, 8 + length, size) for name, entry in header.items()}
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such shard; it will be made again where the cache was made") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a readable shard ({error}); delete it, it will be made again") from error
    return Shard(path, tensors, about)


def _place(entry: Any, base: int, size: int) -> Place:
    begin, end = entry["data_offsets"]
    place = Place(DTYPES[entry["dtype"]], tuple(entry["shape"]), base + begin)
    if base + end > size or end - begin != math.prod(place.shape) * place.dtype.itemsize:
        raise ValueError("cut off")
    return place


class Mappings:
    """Files mapped into memory, the most recently used ones."""

    def __init__(self) -> None:
        self._maps: OrderedDict[Path, mmap.mmap] = OrderedDict()

    def rows(self, shard: Shard, name: str, rows: Tensor) -> Tensor:
        """Return some rows (K, ...) of a tensor as a copy."""
        place = shard.tensors[name]
        if not place.row_bytes or not len(rows):
            return torch.empty(len(rows), *place.shape[1:], dtype=place.dtype)
        mapped = self._mapped(shard.path)
        count = place.shape[0] * place.row_bytes
        whole = np.frombuffer(mapped, np.uint8, count, place.offset).reshape(place.shape[0], place.row_bytes)
        found = torch.from_numpy(whole[rows.numpy()]).view(place.dtype).reshape(len(rows), *place.shape[1:])
        del whole
        # What was read stays in the system's page cache, but is no longer counted as this process's.
        if hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)
        return found

    def _mapped(self, path: Path) -> mmap.mmap:
        if path in self._maps:
            self._maps.move_to_end(path)
            return self._maps[path]
        while len(self._maps) >= OPEN:
            self._maps.popitem(last=False)[1].close()
        try:
            with path.open("rb") as file:
                self._maps[path] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from error
        return self._maps[path]


class MappedTensor:
    """A tensor (N, ...) of which the rows lie in shards, one after another; `bank[rows]` reads those rows (B,)."""

    def __init__(self, shards: Sequence[Shard], name: str, mappings: Mappings, limit: int | None = None) -> None:
        places = [shard.tensors[name] for shard in shards]
        self._shards, self._name, self._mappings = list(shards), name, mappings
        self._starts = torch.tensor([0, *accumulate(place.shape[0] for place in places)])
        self._length = int(self._starts[-1]) if limit is None else min(limit, int(self._starts[-1]))
        self.dtype, self.row_shape = places[0].dtype, places[0].shape[1:]

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, rows: Tensor) -> Tensor:
        found = torch.empty(len(rows), *self.row_shape, dtype=self.dtype)
        which = torch.searchsorted(self._starts, rows, right=True) - 1
        for number in which.unique().tolist():
            here = (which == number).nonzero()[:, 0]
            found[here] = self._mappings.rows(self._shards[number], self._name, rows[here] - self._starts[number])
        return found
