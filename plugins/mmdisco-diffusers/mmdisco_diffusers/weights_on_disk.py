"""Inspect a model's weights without loading them: their number, a fingerprint, and missing or damaged files."""

import hashlib
import json
import math
import re
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mmdisco_cli.errors import DataError
from mmdisco_diffusers.finding import how_to_fetch, read_json

SUFFIXES = (".safetensors", ".bin", ".pt")
BLOCKS, BLOCK = 64, 4096
READ = ("boundary_ratio", "expand_timesteps", "force_zeros_for_empty_prompt")
"""Keys of model_index.json that models read; absent, null and false are equivalent."""
_VARIANT = re.compile(r"\.(fp16|bf16|fp8\w*|non_ema)(-\d+-of-\d+)?$")
_POINTER = b"version https://git-lfs"
_CONFIGS = ("config.json", "scheduler_config.json")


def weight_files(folder: Path) -> list[Path]:
    """Return the files of one part's weights, those of safetensors where there are any, leaving out variants."""
    for suffix in SUFFIXES:
        found = [path for path in sorted(folder.glob(f"*{suffix}")) if path.is_file() and not _is_variant(path)]
        if found:
            return found
    return []


def require_weights(folder: Path) -> None:
    """Check that a part's weights are complete, by the headers of their files.

    Raises:
        DataError: there are none, some are missing, or a file is damaged or of another type.
    """
    found = weight_files(folder)
    if not found:
        others = sorted(path.name for suffix in SUFFIXES for path in folder.glob(f"*{suffix}") if _is_variant(path))
        what = f"only those of a variant, which are not read ({others[0]})" if others else "no weights"
        raise DataError(f"{folder}: has {what}{how_to_fetch(folder)}")
    for path in found:
        _require_whole(path)
    for index in sorted(folder.glob(f"*{found[0].suffix}.index.json")):
        shards = set((read_json(index) or {}).get("weight_map", {}).values())
        if missing := sorted(shards - {path.name for path in found}):
            raise DataError(f"{folder}: lacks {missing[0]}, which {index.name} names{how_to_fetch(folder)}")


def count_weights(folder: Path) -> int:
    """Return how many weights a part has; for files other than safetensors, a quarter of their bytes."""
    return sum(_in_file(path) for path in weight_files(folder))


def name_weights(parts: Iterable[Path], index: Path | None = None) -> str:
    """Return 16 hex digits that depend on the sizes, layout and values of these parts' files.

    They also depend on the configurations and the keys of model_index.json that a model reads, but not on paths or the
    versions of libraries. Of large files, evenly spread blocks are read: reading a whole model takes minutes, and any
    training changes these blocks.
    """
    digest = hashlib.sha256(_canonical(_read_of(index)) if index else b"")
    for folder in parts:
        for name in _CONFIGS:
            digest.update(_canonical(read_json(folder / name)))
        for path in weight_files(folder):
            _sample(path, digest)
    return digest.hexdigest()[:16]


def _read_of(index: Path) -> dict[str, Any]:
    content = read_json(index) or {}
    scheduler = (content.get("scheduler") or ("", ""))[1]
    return {"scheduler": scheduler, **{key: content[key] for key in READ if content.get(key)}}


def _canonical(config: Any) -> bytes:
    return f"{json.dumps(_public(config), sort_keys=True)}\n".encode()


def _public(value: Any) -> Any:
    """Return a configuration without private keys and versions, which depend on how it was saved."""
    if isinstance(value, dict):
        kept = {key: _public(item) for key, item in value.items() if not key.startswith("_")}
        kept.pop("transformers_version", None)
        return kept
    return [_public(item) for item in value] if isinstance(value, list) else value


def _is_variant(path: Path) -> bool:
    return _VARIANT.search(path.stem) is not None


def _require_whole(path: Path) -> None:
    _require_content(path)
    if path.suffix == ".safetensors":
        _header(path)
    elif _start(path, 2) == b"PK" and not zipfile.is_zipfile(path):
        raise DataError(f"{path}: damaged: it ends too early{how_to_fetch(path, again=True)}")


def _require_content(path: Path) -> None:
    start = _start(path, len(_POINTER))
    if not start:
        raise DataError(f"{path}: damaged: it is empty{how_to_fetch(path, again=True)}")
    if start == _POINTER:
        raise DataError(f"{path}: a pointer of git-LFS, not the weights; `git lfs pull` fetches them")


def _start(path: Path, size: int) -> bytes:
    with path.open("rb") as stream:
        return stream.read(size)


def _in_file(path: Path) -> int:
    if path.suffix != ".safetensors":
        return path.stat().st_size // 4
    header = _header(path)
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")


def _header(path: Path) -> dict[str, dict[str, list[int]]]:
    """Return the header of a safetensors file; raise DataError where the file's size does not match it."""
    _require_content(path)
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else size
        if length > size - 8:
            raise DataError(f"{path}: damaged: it ends within its header{how_to_fetch(path, again=True)}")
        text = stream.read(length)
    try:
        header: dict[str, dict[str, list[int]]] = json.loads(text)
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        expected = 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DataError(f"{path}: damaged: its header is not one of safetensors") from error
    if size != expected:
        raise DataError(
            f"{path}: damaged: {size} bytes, where its header declares {expected}{how_to_fetch(path, again=True)}"
        )
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
