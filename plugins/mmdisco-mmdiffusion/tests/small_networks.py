"""Weights and inputs drawn from the hashes of their names, and networks small enough to ask in a moment."""

import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmdisco_cli.weights_file import save_weights
from mmdisco_mmdiffusion.enlarger import Enlarger, EnlargerConfig
from mmdisco_mmdiffusion.unet import CoupledUNet, UNetConfig

UNET = UNetConfig(channels=32, multipliers=(1, 2, 2), res_blocks=1, head_channels=32, windows=(1, 2))
ENLARGER = EnlargerConfig(channels=32, multipliers=(1, 2), res_blocks=1, heads=2, attention=(1,))
SPOKEN = {"head_channels": 32, "windows": [1, 2]}
"""What the shapes of the small U-Net's tensors do not determine."""


def drawn(name: str, shape: Sequence[int]) -> Tensor:
    """Return normal numbers from a seed that is the first 8 bytes of the name's SHA-256."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little") % 2**63
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))


def drawn_weights(module: nn.Module, mode: str = "fanin") -> dict[str, Tensor]:
    """Return weights for a module: `std002` small everywhere, `fanin` of a size that keeps activations alive."""
    norms = {f"{name}.weight" for name, part in module.named_modules() if isinstance(part, nn.GroupNorm)}
    norms |= {name for name in module.state_dict() if name.endswith("GroupNorm.weight")}
    return {name: _drawn_weight(name, x.shape, name in norms, mode) for name, x in module.state_dict().items()}


def fill(module: nn.Module, mode: str = "fanin") -> None:
    """Give a module drawn weights."""
    module.load_state_dict(drawn_weights(module, mode))
    module.eval().requires_grad_(False)


def small_unet(config: UNetConfig = UNET) -> CoupledUNet:
    """Return a coupled U-Net with drawn weights."""
    module = CoupledUNet(config)
    fill(module)
    return module


def small_enlarger(config: EnlargerConfig = ENLARGER) -> Enlarger:
    """Return a super-resolution network with drawn weights."""
    module = Enlarger(config)
    fill(module)
    return module


def save_unet(path: Path, said: Mapping[str, Any] = SPOKEN, drop: Collection[str] = ()) -> Path:
    """Write the small U-Net as a converted checkpoint."""
    about = {"kind": "backbone", "architecture": "mmdiffusion-unet", "options": dict(said)}
    save_weights(path, {name: x for name, x in small_unet().state_dict().items() if name not in drop}, about)
    return path


def save_enlarger(path: Path) -> Path:
    """Write the small super-resolution network as a converted checkpoint."""
    about = {"kind": "backbone", "architecture": "mmdiffusion-sr", "options": {"heads": ENLARGER.heads}}
    save_weights(path, small_enlarger().state_dict(), about)
    return path


def _drawn_weight(name: str, shape: Sequence[int], norm: bool, mode: str) -> Tensor:
    r = drawn(name, shape)
    if mode == "std002":
        return 0.02 * r + (1.0 if norm else 0.0)
    if norm:
        return 1 + 0.1 * r
    return r / math.sqrt(math.prod(shape[1:])) if len(shape) > 1 else 0.1 * r
