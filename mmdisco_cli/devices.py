"""The device and the number format of a run."""

import ctypes
import mmap
import sys
from pathlib import Path

import torch

from mmdisco_cli.errors import DeviceError, UsageError, did_you_mean
from mmdisco_cli.run.ranks import local_rank

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""Option numbers of mallopt in glibc's malloc.h."""
_KINDS = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str | None = None) -> torch.device:
    """Return the device called cpu, cuda, cuda:1 or mps; `auto` or None takes a GPU, each local rank its own.

    Raises:
        UsageError: no such name, or LOCAL_RANK is not a number.
        DeviceError: this machine has no such device.
    """
    kind, _, index = (name or "auto").partition(":")
    if kind not in _KINDS or (index and not index.isdecimal()):
        raise UsageError(f"unknown device {name!r}{did_you_mean(kind, _KINDS)}")
    if kind == "auto":
        # Never mps by itself: it has no float64, in which noise levels are computed.
        kind = "cuda" if torch.cuda.is_available() else "cpu"
    if kind == "cuda":
        return _cuda(int(index)) if index else _cuda(local_rank(), " (LOCAL_RANK chose it)")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("no device mps on this machine")
    return torch.device(kind)


def keep_large_blocks() -> None:
    """Let glibc keep freed blocks of more than 32 MiB for reuse, until the process ends.

    By default glibc returns such blocks to the kernel at once, so every operation on activations of that size causes
    page faults again: a seventh of the time of guidance on a CPU. With another C library this does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)


def process_mb(device: torch.device) -> dict[str, int]:
    """Return as `process_mb` what this process occupies now, in whole tens of MB: on a CPU, of the same memory.

    It is what a forecast of weights and activations lacks: Python and its libraries. Empty for another device, and
    where the system does not say.
    """
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1]) if device.type == "cpu" else 0
    except OSError:
        pages = 0
    return {"process_mb": round(pages * mmap.PAGESIZE / 1e7) * 10} if pages else {}


def _cuda(index: int, why: str = "") -> torch.device:
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if index >= count:
        found = f"only cuda:0 to cuda:{count - 1}" if count else "no CUDA device at all"
        raise DeviceError(f"no device cuda:{index} on this machine: torch finds {found}{why if index else ''}")
    return torch.device("cuda", index)
