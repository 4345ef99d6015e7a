"""Weights as one self-describing safetensors file: tensors, and their description as JSON in the metadata."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mmdisco_cli.errors import DataError, did_you_mean
from mmdisco_cli.run.files import make_directory, replacing
from mmdisco_cli.schema import at_home
from mmdisco_cli.tensors.files import read_safetensors
from mmdisco_cli.tensors.guard import form_trouble, require_finite

KEY = "mmdisco"
PACKAGED = Path(__file__).parent / "weights"


def save_weights(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any], *, exact: bool = False) -> None:
    """Write tensors and their description to `path`, whole or not at all; floats in half precision unless `exact`.

    Raises:
        DataError: the file cannot be written.
    """
    stored = {name: tensor if exact else _halve(tensor) for name, tensor in tensors.items()}
    write_tensors(path, stored, {KEY: json.dumps(about, sort_keys=True)})


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as one safetensors file, whole or not at all; the same input gives the same bytes.

    Raises:
        DataError: the file cannot be written.
    """
    # Not save_file: that writes a temporary file of its own, which a kill leaves behind under an unknown name.
    data = save({name: x.detach().cpu().contiguous() for name, x in tensors.items()}, dict(metadata or {}) or None)
    make_directory(path.parent)
    with replacing(path) as part, part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())  # after a power loss the name may otherwise outlive the content


def save_pickled(path: Path, content: Any, previous: Path | None = None) -> None:
    """Write `content` with torch.save, whole or not at all: a kill leaves the old file as it was.

    The old file is kept as `previous`, where that is given.

    Raises:
        DataError: the file cannot be written.
    """
    make_directory(path.parent)
    try:
        # Into an open file: given a path, torch hides a full disk, and writes the path into what it saves.
        with replacing(path) as part, part.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
            if previous is not None and path.exists():
                os.replace(path, previous)
    except RuntimeError as error:
        # Even so torch hides the error of the disk behind a failed check of its own.
        cause = error.__context__
        reason = (cause.strerror if isinstance(cause, OSError) else None) or str(error).split("\n", 1)[0]
        raise DataError(f"{path}: cannot write ({reason})") from error


def read_about(path: Path, kind: str) -> dict[str, Any]:
    """Return the description in a weights file, without its tensors.

    Raises:
        DataError: not a safetensors file, not written by mmdisco, or of another kind ("backbone" or "discriminator").
    """
    about = any_about(path)
    if about.get("kind") != kind:
        raise DataError(f"{path}: holds a {about.get('kind')}, not a {kind}")
    return about


def any_about(path: Path) -> dict[str, Any]:
    """Return the description in a weights file of whatever kind; errors as for `read_about`."""
    metadata = _metadata(path)
    if KEY not in metadata:
        raise DataError(f"{path}: a safetensors file, but not one that mmdisco wrote")
    try:
        about = json.loads(metadata[KEY])
    except ValueError as error:
        raise DataError(f"{path}: its description is damaged ({error})") from error
    if not isinstance(about, dict):
        raise DataError(f"{path}: its description is damaged (a {type(about).__name__})")
    return about


def has_about(path: Path) -> bool:
    """Return whether a safetensors file describes itself; raise DataError where it cannot be read."""
    return KEY in _metadata(path)


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not a readable safetensors file ({error})") from error


def load_weights(path: Path, module: torch.nn.Module, base: Path | None = None) -> None:
    """Fill a module with the tensors of a weights file, and with those of its `base` that it does not replace.

    Raises:
        DataError: tensors are missing, surplus, of another shape or no plain numbers; the first few are named.
    """
    stored = (read_safetensors(base) if base else {}) | read_safetensors(path)
    wanted = module.state_dict()
    wrong = [f"missing {n}" for n in wanted.keys() - stored.keys()]
    wrong += [f"surplus {n}" for n in stored.keys() - wanted.keys()]
    wrong += [
        f"{n} is {tuple(stored[n].shape)}, not {tuple(wanted[n].shape)}"
        for n in wanted.keys() & stored.keys()
        if stored[n].shape != wanted[n].shape
    ]
    kinds = {n: form_trouble(stored[n]) for n in wanted.keys() & stored.keys() if wanted[n].is_floating_point()}
    wrong += [f"{n} {trouble}" for n, trouble in kinds.items() if trouble]
    if wrong:
        raise DataError(f"{path}: does not fit its own description: {'; '.join(sorted(wrong)[:3])}")
    require_finite(path, stored)
    module.load_state_dict({name: tensor.float() for name, tensor in stored.items()})


def find_weights(name: str) -> Path:
    """Return a weights file: a path first, then a packaged one with or without .safetensors.

    Raises:
        DataError: neither exists.
    """
    path = Path(at_home(name))
    if path.is_file():
        return path
    known = {file.stem: file for file in PACKAGED.glob("*.safetensors")}
    if (found := known.get(name.removesuffix(".safetensors"))) is not None:
        return found
    raise DataError(f"no weights {name!r}, neither a file nor packaged{did_you_mean(path.stem, known)}")


def _halve(tensor: Tensor) -> Tensor:
    return tensor.half() if tensor.is_floating_point() else tensor
