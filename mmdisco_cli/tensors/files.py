"""Read files of tensors: whole, with their checksums verified, and without executing anything in them."""

import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mmdisco_cli.errors import DataError

_MAGIC = (b"PK\x03\x04", b"\x80")
"""What torch.save begins with: a zip archive, before torch 1.6 a pickle."""


def read_saved(path: Path, *, mapped: bool = False) -> Any:
    """Return what torch.save wrote, on the CPU; `mapped` maps the file, so that tensors are read when they are used.

    Raises:
        DataError: another kind of file, truncated, damaged, or more than tensors and plain data.
    """
    with path.open("rb") as file:
        if not file.read(4).startswith(_MAGIC):
            raise DataError(f"{path}: not a checkpoint: neither torch.save nor safetensors writes such a file")
    if zipfile.is_zipfile(path):
        _require_whole(path)
    try:
        return _loaded(path, mapped)
    except pickle.UnpicklingError as error:
        raise DataError(f"{path}: not a checkpoint of tensors alone; code in a pickle is never executed") from error
    except Exception as error:  # whatever the unpickler meets, the file is to blame
        raise DataError(f"{path}: truncated or damaged ({first_line(error)})") from error


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file; raise DataError where it is none, truncated or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: truncated or damaged ({first_line(error)})") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:  # of a dtype that only newer torch knows
        raise DataError(f"{path}: holds numbers of a kind that is not known here ({first_line(error)})") from error


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, its class where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _require_whole(path: Path) -> None:
    """Raise DataError where an archive is not torch.save's, or fails its checksums: torch checks neither."""
    try:
        with zipfile.ZipFile(path) as archive:
            _require_saved(path, archive.infolist())
            damaged = archive.testzip()
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, EOFError) as error:
        raise DataError(f"{path}: truncated or damaged ({first_line(error)})") from error
    if damaged is not None:
        raise DataError(f"{path}: truncated or damaged (the checksum of {damaged} is wrong)")


def _require_saved(path: Path, parts: list[zipfile.ZipInfo]) -> None:
    names = {part.filename.rpartition("/")[2] for part in parts}
    if "constants.pkl" in names:
        raise DataError(f"{path}: a TorchScript program, not a checkpoint: save the state_dict of its module instead")
    if "data.pkl" not in names:
        raise DataError(f"{path}: a zip archive, but none that torch.save wrote")
    # torch.save compresses nothing: what is compressed, or declares more than the file holds, would expand to any size.
    packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
    if packed or sum(part.file_size for part in parts) > path.stat().st_size:
        raise DataError(f"{path}: a compressed archive, which torch.save does not write: unpack it, and save it again")


def _loaded(path: Path, mapped: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about pickles that torch did not write: those fail, or hold no tensors
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
        except RuntimeError as error:
            if not mapped or "mmap" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)  # saved before torch 1.6
