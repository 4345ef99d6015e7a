"""Checkpoints as their authors saved them: read without running anything that is in them."""

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmdisco_cli.errors import DataError

Tensors = dict[str, Tensor]
_MAGIC = (b"PK\x03\x04", b"\x80")
"""What torch.save begins with: a zip archive, before torch 1.6 a pickle."""
_WRAPPED = "module."


def read_checkpoint(path: Path) -> Tensors:
    """Return the tensors of a .safetensors file or of what torch.save wrote.

    Raises:
        DataError: no such file, truncated or damaged, or more or other than named tensors.
    """
    if not path.is_file():
        raise DataError(f"{path}: {'a folder, not a checkpoint' if path.is_dir() else 'no such file'}")
    found = _safetensors(path) if is_safetensors(path) else _saved(path)
    return _named_tensors(path, found)


def is_safetensors(path: Path) -> bool:
    """Return whether a file begins as safetensors do: a length, then a JSON object."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _safetensors(path: Path) -> Tensors:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: truncated or damaged ({_first_line(error)})") from error


def _saved(path: Path) -> Any:
    with path.open("rb") as file:
        if not file.read(4).startswith(_MAGIC):
            raise DataError(f"{path}: not a checkpoint: neither torch.save nor safetensors writes such a file")
    try:
        _require_checksums(path)
        return _loaded(path)
    except pickle.UnpicklingError as error:
        raise DataError(f"{path}: not a checkpoint of tensors alone, and nothing else in it is ever run") from error
    except Exception as error:  # whatever the unpickler meets, the file is to blame
        raise DataError(f"{path}: truncated or damaged ({_first_line(error)})") from error


def _require_checksums(path: Path) -> None:
    """Raise ValueError where a part of a zip archive is not what was written: torch does not look."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of {damaged} is wrong")


def _loaded(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickles that torch did not write, which fail or hold no tensors
        try:
            # Mapped, not read: a gigabyte of weights passes through memory once, on its way out.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)  # saved before torch 1.6


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _named_tensors(path: Path, found: Any) -> Tensors:
    if not isinstance(found, Mapping):
        raise DataError(f"{path}: holds a {type(found).__name__}, not tensors by name")
    others = [str(name) for name, value in found.items() if not isinstance(value, Tensor)]
    if others or not found:
        inside = f"{', '.join(others[:3])} beside or instead of them" if others else "nothing"
        raise DataError(f"{path}: expected tensors by name, found {inside}; give the file of the weights alone")
    # DataParallel puts one word before every name.
    wrapped = _WRAPPED if all(str(name).startswith(_WRAPPED) for name in found) else ""
    tensors = {str(name).removeprefix(wrapped): tensor for name, tensor in found.items()}
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_meta:
            kind = "on no device" if tensor.is_meta else str(tensor.layout).removeprefix("torch.")
            raise DataError(f"{path}: {name} is {kind}, without plain values to convert")
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise DataError(f"{path}: {name} holds values that are not finite")
    return tensors
