"""Change the sample rate of audio without shifting it in time."""

from __future__ import annotations

import soxr  # type: ignore[import-untyped]
import torch
from torch import Tensor

QUALITY = "HQ"
"""librosa's soxr_hq, with which the published onset times were computed."""


def resample(wave: Tensor, source: int, target: int) -> Tensor:
    """Resample (C, S) from `source` to `target` Hz; sample 0 stays at time 0, the length is rounded up."""
    if source == target or wave.shape[-1] == 0:
        return wave
    moved = torch.from_numpy(soxr.resample(wave.T.contiguous().numpy(), source, target, QUALITY)).T
    missing = -(-wave.shape[-1] * target // source) - moved.shape[-1]
    return torch.nn.functional.pad(moved, (0, missing)).contiguous()
