"""What can be known of a model's weights without loading them: their number, and a name for their values."""

import hashlib
import json
import math
import struct
from collections.abc import Iterable
from pathlib import Path

SUFFIXES = (".safetensors", ".bin", ".pt")
BLOCKS, BLOCK = 64, 4096


def weight_files(folder: Path) -> list[Path]:
    """Return the files of one part's weights, those of safetensors where there are any, leaving out variants."""
    for suffix in SUFFIXES:
        found = [path for path in sorted(folder.glob(f"*{suffix}")) if not path.stem.endswith((".fp16", ".non_ema"))]
        if found:
            return found
    return []


def count_weights(folder: Path) -> int:
    """Return how many weights a part has; for files other than safetensors, a quarter of their bytes."""
    return sum(_in_file(path) for path in weight_files(folder))


def name_weights(parts: Iterable[Path]) -> str:
    """Return 16 hex digits that change with the sizes, the layout or the values of these parts' files.

    Of large files evenly spread blocks are read: all of a model takes minutes, and no training leaves these as they
    were.
    """
    digest = hashlib.sha256()
    for folder in parts:
        config = folder / "config.json"
        digest.update(folder.name.encode() + (config.read_bytes() if config.is_file() else b""))
        for path in weight_files(folder):
            _sample(path, digest)
    return digest.hexdigest()[:16]


def _in_file(path: Path) -> int:
    if path.suffix != ".safetensors":
        return path.stat().st_size // 4
    header = _header(path)
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def _header(path: Path) -> dict[str, dict[str, list[int]]]:
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header: dict[str, dict[str, list[int]]] = json.loads(stream.read(length))
    return header


def _sample(path: Path, digest: "hashlib._Hash") -> None:
    size = path.stat().st_size
    digest.update(f"{path.name}:{size}".encode())
    with path.open("rb") as stream:
        if size <= BLOCKS * BLOCK:
            digest.update(stream.read())
            return
        for place in range(BLOCKS):
            stream.seek(place * (size - BLOCK) // (BLOCKS - 1))
            digest.update(stream.read(BLOCK))
