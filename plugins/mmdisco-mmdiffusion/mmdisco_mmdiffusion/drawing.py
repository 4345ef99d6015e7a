"""What the model draws by itself, from a sample's key alone: attention shifts at each time, noise to enlarge from."""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def drawn_shifts(keys: Sequence[int], times: Sequence[float], limits: Sequence[int]) -> Tensor:
    """Return a shift (B, len(limits)) for each attention, evenly from 0 to its limit, both included."""
    rows = []
    for key, time in zip(keys, times, strict=True):
        generator = _generator(f"{key}:shifts:{int(time)}")
        rows.append([int(torch.randint(limit + 1, (), generator=generator)) for limit in limits])
    return torch.tensor(rows, dtype=torch.long).reshape(len(rows), len(limits))


def fixed_shifts(batch: int, shift: int, limits: Sequence[int]) -> Tensor:
    """Return the one shift (batch, len(limits)), or what of it a limit allows."""
    return torch.tensor([min(shift, limit) for limit in limits], dtype=torch.long).expand(batch, -1)


def enlargement_noise(keys: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Return standard normal noise (B, *shape) for the frames of each sample."""
    return torch.stack([torch.randn(tuple(shape), generator=_generator(f"{key}:enlargement")) for key in keys])


def _generator(text: str) -> torch.Generator:
    digest = hashlib.sha256(text.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
