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
import numpy.typing as npt
import torch
from torch import Tensor

from mmdisco_cli.errors import DataError

METADATA = "__metadata__"
OPEN = 128
"""Shards that are mapped at once: each holds a file open."""
AROUND = 2 << 20
"""What the system may map around a byte that is read, where its page cache has large pages."""
HELD = 32 << 20
"""Bytes that may be mapped before they are let go."""
Bytes = npt.NDArray[np.uint8]
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


class _Mapped:
    """One file in memory, and its tensors as bytes (N, bytes of a row)."""

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise DataError(f"{path}: {error.strerror}") from error
        self.tensors: dict[str, Bytes] = {}

    def tensor(self, name: str, place: Place) -> Bytes:
        if name not in self.tensors:
            count = place.shape[0] * place.row_bytes
            flat = np.frombuffer(self.map, np.uint8, count, place.offset)
            self.tensors[name] = flat.reshape(place.shape[0], place.row_bytes)
        return self.tensors[name]


class Mappings:
    """Files mapped into memory, the most recently used ones."""

    def __init__(self) -> None:
        self._maps: OrderedDict[Path, _Mapped] = OrderedDict()
        self._read, self._touched = 0, set[_Mapped]()

    def rows(self, shard: Shard, name: str, first: int, count: int = 1) -> Bytes:
        """Return the bytes (count, bytes of a row) of rows of a tensor, as they lie in the file."""
        place, mapped = shard.tensors[name], self._mapped(shard.path)
        self._let_go(count * place.row_bytes + AROUND)
        self._touched.add(mapped)
        return mapped.tensor(name, place)[first : first + count]

    def _let_go(self, more: int) -> None:
        """Let go of what was read lately: it stays in the system's page cache, but is no longer this process's."""
        self._read += more
        if self._read < HELD:
            return
        for mapped in self._touched if hasattr(mmap, "MADV_DONTNEED") else ():
            mapped.map.madvise(mmap.MADV_DONTNEED)
        self._read = more
        self._touched.clear()

    def _mapped(self, path: Path) -> _Mapped:
        if path in self._maps:
            self._maps.move_to_end(path)
            return self._maps[path]
        while len(self._maps) >= OPEN:
            self._maps.popitem(last=False)
        self._maps[path] = _Mapped(path)
        return self._maps[path]


class MappedTensor:
    """A tensor (N, ...) of which the rows lie in shards, one after another; `bank[rows]` reads those rows (B,)."""

    def __init__(self, shards: Sequence[Shard], name: str, mappings: Mappings, limit: int | None = None) -> None:
        places = [shard.tensors[name] for shard in shards]
        self._shards, self._name, self._mappings = list(shards), name, mappings
        self._starts = np.array([0, *accumulate(place.shape[0] for place in places)])
        self._length = int(self._starts[-1]) if limit is None else min(limit, int(self._starts[-1]))
        self.dtype, self.row_shape, self._bytes = places[0].dtype, places[0].shape[1:], places[0].row_bytes

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, rows: Tensor) -> Tensor:
        wanted = rows.numpy()
        shard = np.searchsorted(self._starts, wanted, side="right") - 1
        places = zip(shard.tolist(), (wanted - self._starts[shard]).tolist(), strict=True)
        found = np.empty((len(wanted), self._bytes), np.uint8)
        if self._bytes:
            for into, (number, row) in enumerate(places):
                found[into] = self._mappings.rows(self._shards[number], self._name, row)[0]
        return _tensor(found, self.dtype, self.row_shape)


def read_rows(shard: Shard, name: str, mappings: Mappings, first: int, count: int) -> Tensor:
    """Return rows (count, ...) of one shard's tensor that lie one after another."""
    place = shard.tensors[name]
    found = mappings.rows(shard, name, first, count).copy() if count else np.empty((0, place.row_bytes), np.uint8)
    return _tensor(found, place.dtype, place.shape[1:])


def _tensor(rows: Bytes, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    flat = torch.from_numpy(rows).reshape(-1)
    return (flat.view(dtype) if len(flat) else flat.to(dtype)).reshape(len(rows), *shape)
