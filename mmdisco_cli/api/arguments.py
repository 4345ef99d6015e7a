"""What callers pass, checked before anything is loaded or drawn; each mistake is a UsageError that names it."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdisco_cli.errors import UsageError, did_you_mean
from mmdisco_cli.schema import WIDEST, at_home


def whole(name: str, value: Any, least: int) -> int:
    """Return a whole number of 64 bits that is at least `least`, of Python, NumPy or torch."""
    try:
        number = None if isinstance(value, bool) else index(value)
    except (TypeError, RuntimeError):  # the latter of a tensor of several
        number = None
    if number is None:
        raise UsageError(f"{name}: expected a whole number, got {_shown(value)}")
    if not least <= number <= WIDEST[1]:
        raise UsageError(f"{name} {value}: must be at least {least}, and of 64 bits")
    return number


def path(name: str, value: Any) -> Path:
    """Return a path, with ~ as the user's home."""
    if not isinstance(value, str | os.PathLike):
        raise UsageError(f"{name}: expected a path, got {_shown(value)}")
    if not os.fspath(value):
        raise UsageError(f"{name}: the path is empty; the current folder is .")
    return Path(at_home(os.fspath(value)))


def mapping(name: str, value: Any) -> Mapping[Any, Any]:
    """Return a mapping, an empty one for None."""
    if value is not None and not isinstance(value, Mapping):
        raise UsageError(f"{name}: expected a mapping, got {_shown(value)}")
    return value or {}


def called(name: str, value: Any) -> Any:
    """Return what can be called, or None."""
    if value is not None and not callable(value):
        raise UsageError(f"{name}: expected a function, got {_shown(value)}")
    return value


def texts(name: str, value: Any) -> tuple[str, ...]:
    """Return texts: one, several, or none for None."""
    several = (value,) if isinstance(value, str) else () if value is None else value
    found = tuple(several) if isinstance(several, Iterable) and not isinstance(several, Tensor | Mapping) else (value,)
    if wrong := [one for one in found if not isinstance(one, str)]:
        raise UsageError(f"{name}: expected texts, got {_shown(wrong[0])}")
    return found


def prompts(value: Any, modalities: Collection[str]) -> dict[str, Any]:
    """Return the options of sampling that hold prompts, for all modalities or by modality."""
    if not isinstance(value, Mapping):
        return {"prompts": texts("prompts", value)}
    _require_known("prompts", value, modalities)
    own = {modality: texts(f"prompts {modality}", several) for modality, several in value.items()}
    if len({len(several) for several in own.values()}) > 1:
        raise UsageError(f"prompts: as many for each modality, not {', '.join(str(len(t)) for t in own.values())}")
    rows = [dict(zip(own, row, strict=True)) for row in zip(*own.values(), strict=True)]
    return {"prompts": tuple(" / ".join(dict.fromkeys(row.values())) for row in rows), "captions": tuple(rows)}


def given(value: Any, modalities: Collection[str]) -> dict[str, Tensor | str | Path]:
    """Return by modality the media or path that samples are given; arrays become tensors."""
    held = mapping("given", value)
    _require_known("given", held, modalities)
    return {modality: _one_given(modality, one) for modality, one in held.items()}


def _one_given(modality: str, held: Any) -> Tensor | str | Path:
    if isinstance(held, np.ndarray):
        return torch.as_tensor(held)
    if not isinstance(held, Tensor | str | Path):
        raise UsageError(f"given {modality}: expected a tensor, a path or a text, got {_shown(held)}")
    return held


def samples(name: str, value: Any, kind: type) -> Sequence[Any]:
    """Return samples of a class: one or several, but not none."""
    found = (value,) if isinstance(value, kind) else value
    if not isinstance(found, Iterable) or isinstance(found, str):
        raise UsageError(f"{name}: expected samples, got {_shown(value)}")
    found = tuple(found)
    if wrong := [one for one in found if not isinstance(one, kind)]:
        raise UsageError(f"{name}: expected samples, got {_shown(wrong[0])} among them")
    if not found:
        raise UsageError(f"{name}: there are none")
    return found


def _require_known(name: str, found: Iterable[Any], modalities: Collection[str]) -> None:
    if unknown := [modality for modality in found if modality not in modalities]:
        raise UsageError(f"{name}: unknown modality {unknown[0]}{did_you_mean(str(unknown[0]), modalities)}")


def _shown(value: Any) -> str:
    """Return a value as a message names it: numbers and texts themselves, of anything else its class."""
    return repr(value) if isinstance(value, int | float | str | None) else f"a {type(value).__name__}"
