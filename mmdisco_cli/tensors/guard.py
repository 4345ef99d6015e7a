"""Checks on the tensors of a file before their values are used; none of them copies a tensor."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from mmdisco_cli.errors import DataError

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_ROOM, _TIMES = 1 << 26, 16
"""Bytes that repeated values may always take, and above these how many times the file's own size."""


def form_trouble(tensor: Tensor) -> str:
    """Return a clause that says why a tensor cannot be plain weights, empty where it can."""
    if tensor.is_meta:
        return "is on no device, without plain values"
    if tensor.layout is not torch.strided:
        return f"is {_short(tensor.layout)}, without plain values"
    if tensor.dtype not in FLOATS:
        return f"holds {tensor.dtype}, not floats of {', '.join(map(_short, FLOATS))}"
    return ""


def require_room(path: Path, tensors: Iterable[Tensor]) -> None:
    """Raise DataError where the tensors of a file would take far more memory than the file: a few values, repeated."""
    needed, held = sum(tensor.nbytes for tensor in tensors), path.stat().st_size
    if needed > _ROOM + _TIMES * held:
        raise DataError(
            f"{path}: its tensors would take {needed:,} bytes, the file has {held:,}: it repeats few values; "
            "save its tensors with .contiguous()"
        )


def require_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise DataError at the first floating-point tensor that holds anything but finite numbers."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise DataError(f"{path}: {name} holds values that are not finite")


def _short(kind: torch.dtype | torch.layout) -> str:
    return str(kind).removeprefix("torch.")
