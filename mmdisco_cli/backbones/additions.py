"""Weights trained starting from others (their base): the file holds only the tensors that differ from those."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.errors import DataError
from mmdisco_cli.run.files import SHORT, sha256_of
from mmdisco_cli.tensors.files import read_safetensors
from mmdisco_cli.weights_file import PACKAGED, any_about, find_weights


def require_own(path: Path, about: Mapping[str, Any], modality: str, name: str) -> None:
    """Raise DataError where weights are, by their description, of another modality or another backbone than `name`."""
    if about.get("modality") != modality:
        raise DataError(f"{path}: was trained on {about.get('modality')}, not on {modality}")
    found: Any = about.get("recipe")
    for key in ("backbones", modality, "name"):
        found = found.get(key) if isinstance(found, Mapping) else None
    if found is not None and found != name:
        raise DataError(f"{path}: holds weights of the backbone {found}, not of {name}")


def base_file(path: Path, about: Mapping[str, Any]) -> Path | None:
    """Return the file of the base that the description of `path` names; None where it has no base.

    Raises:
        DataError: the base is found neither by name nor beside `path`, or is not the one that was trained from.
    """
    base = about.get("base")
    if base is None:
        return None
    try:
        name, known = base["name"], base["fingerprint"]
    except (TypeError, KeyError) as error:
        raise DataError(f"{path}: its description is damaged: base") from error
    beside = path.parent / Path(name).name
    if beside.is_file() and sha256_of(beside)[:SHORT] == known:
        return beside
    found = find_weights(name)
    if (ours := sha256_of(found)[:SHORT]) != known:
        raise DataError(f"{path}: is based on {name} {known}, but {found} is {ours}")
    return found


def without_base(base: str, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors that `base` lacks or that differ from its own, and the name and fingerprint of `base`.

    Raises:
        DataError: `base` cannot be found or read.
    """
    file = find_weights(base)
    known = read_safetensors(file)
    own = {n: x for n, x in tensors.items() if n not in known or not torch.equal(known[n].float(), x.float().cpu())}
    return own, {"name": base, "fingerprint": sha256_of(file)[:SHORT]}


def to_publish(path: Path) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
    """Return the tensors and the description of weights in a form that needs no file but those that mmdisco ships.

    Tensors of any other base are merged in. Errors as for `base_file`.
    """
    about = any_about(path)
    base = base_file(path, about)
    if base is None or base.parent == PACKAGED:
        return read_safetensors(path), about
    whole = {key: value for key, value in about.items() if key != "base"}
    return read_safetensors(base) | read_safetensors(path), {**whole, "options": {**about["options"], "base": None}}
