"""What every tensor of a file must be before its values are looked at: everything here costs no memory."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from mmdisco_cli.errors import DataError

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
_ROOM, _TIMES = 1 << 26, 16
"""Bytes that shared or repeated values may take in any case, and how often a file may hold its own size."""


def form_trouble(tensor: Tensor) -> str:
    """Say in a clause what keeps a tensor from being plain weights; empty where nothing does."""
    if tensor.is_meta:
        return "is on no device, without plain values"
    if tensor.layout is not torch.strided:
        return f"is {_short(tensor.layout)}, without plain values"
    if tensor.dtype not in FLOATS:
        return f"holds {tensor.dtype}, not floats of {', '.join(map(_short, FLOATS))}"
    return ""


def require_room(path: Path, tensors: Iterable[Tensor]) -> None:
    """Raise DataError where tensors of a file take far more memory than it holds: a few values, repeated."""
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
