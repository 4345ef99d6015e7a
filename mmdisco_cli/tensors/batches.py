"""Batches whose samples must not depend on one another."""

from collections.abc import Callable

import torch
from torch import Tensor


def one_by_one(convert: Callable[[Tensor], Tensor], clips: Tensor) -> Tensor:
    """Convert clips (B, ...) one at a time.

    The order of summation depends on the batch size and the processor, and Griffin-Lim magnifies a difference in the
    last bit to 1e-2. One at a time, a clip is computed alike in any batch, and on a CPU no slower. It is cloned because
    some kernels depend on a tensor's alignment in memory.
    """
    return torch.cat([convert(clip.clone()) for clip in clips.split(1)])
