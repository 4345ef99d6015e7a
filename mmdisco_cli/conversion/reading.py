"""Checkpoints as their authors saved them: read without running anything that is in them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mmdisco_cli.conversion.folders import describe_folder
from mmdisco_cli.conversion.wrappers import unwrapped
from mmdisco_cli.errors import DataError
from mmdisco_cli.tensors.files import read_safetensors, read_saved

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a file by the names that their network has for them, and remarks on how they were found."""

    tensors: Tensors
    notes: tuple[str, ...] = ()


def read_checkpoint(path: Path) -> Checkpoint:
    """Return the tensors of a .safetensors file or of what torch.save wrote; their values are not looked at.

    Raises:
        DataError: no such file, truncated or damaged, or more or other than named tensors.
    """
    if path.is_dir():
        raise DataError(f"{path}: {describe_folder(path)}")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.name.endswith(".index.json"):
        raise DataError(f"{path}: the index of a checkpoint in several files: load them all and save one file of them")
    found = read_safetensors(path) if is_safetensors(path) else read_saved(path, mapped=True)
    tensors, entry = _named_tensors(path, found)
    tensors, wrappers = unwrapped(path, tensors)
    notes = [f"weights taken from its entry {entry}"] if entry else []
    notes += [f"names taken without {', '.join(wrappers)}"] if wrappers else []
    return Checkpoint(tensors, tuple(notes))


def is_safetensors(path: Path) -> bool:
    """Return whether a file begins as safetensors do: a length, then a JSON object."""
    with path.open("rb") as file:
        return file.read(9)[8:] == b"{"


def _named_tensors(path: Path, found: Any) -> tuple[Tensors, str]:
    """Return tensors by name, and the entry of the file that holds them where it is not the file itself."""
    if not isinstance(found, Mapping):
        raise DataError(f"{path}: holds a {type(found).__name__}, not tensors by name")
    if _all_tensors(found):
        return _plain(found), ""
    inner = [str(name) for name, value in found.items() if isinstance(value, Mapping) and _all_tensors(value)]
    if len(inner) == 1:
        return _plain(next(value for name, value in found.items() if str(name) == inner[0])), inner[0]
    if inner:
        raise DataError(f"{path}: holds the weights of {', '.join(inner[:5])}; save the one that is meant alone")
    others = [str(name) for name, value in found.items() if not isinstance(value, Tensor)]
    inside = f"{', '.join(others[:3])} beside or instead of them" if others else "nothing"
    raise DataError(f"{path}: expected tensors by name, found {inside}; give the file of the weights alone")


def _all_tensors(found: Mapping[Any, Any]) -> bool:
    return bool(found) and all(isinstance(value, Tensor) for value in found.values())


def _plain(found: Mapping[Any, Any]) -> Tensors:
    return {str(name): tensor.detach() for name, tensor in found.items()}
