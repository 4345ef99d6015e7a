"""Weights and inputs made from names alone, so that nobody has to keep them, and the numbers they led to."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from mmdisco_cli.paper.configs import RELEASED, Released
from mmdisco_cli.paper.discriminator import PaperDiscriminator

HERE = Path(__file__).parent
CONFIGS = ("mmdiffusion_landscape", "audioldm_animediff_vggsound", "auffusion_videocrafter2_vggsound")
NORMS = ("GroupNorm.weight", "fm.norm.weight", "in_layers.0.weight", "out_layers.0.weight", ".1.norm.weight")


def drawn(key: str, shape: Sequence[int]) -> Tensor:
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little") % 2**63
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))


def is_norm(key: str) -> bool:
    layer_norm = ".attn_layers.layers." in key and key.endswith(".0.weight") and ".net." not in key
    return key.endswith(NORMS) or layer_norm or key == "out.0.weight"


def made(key: str, shape: Sequence[int], mode: str) -> Tensor:
    r = drawn(key, shape)
    if mode == "std002":
        return 0.02 * r + (1.0 if is_norm(key) else 0.0)
    if is_norm(key):
        return 1 + 0.1 * r
    return r / math.sqrt(math.prod(shape[1:])) if len(shape) >= 2 else 0.1 * r


def weights(shapes: Mapping[str, Sequence[int]], mode: str = "fanin") -> dict[str, Tensor]:
    return {key: made(key, shape, mode) for key, shape in shapes.items()}


def small(config: str, channels: int = 32) -> Released:
    """Return a released configuration at a quarter of its width."""
    from dataclasses import replace

    released = RELEASED[config]
    return replace(released, options=replace(released.options, channels=channels, blocks=released.options.blocks))


def filled(released: Released, mode: str = "fanin") -> PaperDiscriminator:
    network = PaperDiscriminator(released.options, released.shapes, released.texts)
    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    network.load_state_dict(weights(shapes, mode), strict=True)
    return network.eval().requires_grad_(False)


@cache
def network(config: str, mode: str) -> PaperDiscriminator:
    return filled(RELEASED[config], mode)


@cache
def vectors(name: str) -> dict[str, Tensor]:
    return load_file(HERE / f"{name}.safetensors")


def texts_of(released: Released, batch: int, negative: bool) -> dict[str, Tensor] | None:
    if not released.texts:
        return None
    suffix, (audio, video) = "_neg" * negative, (released.texts["audio"], released.texts["video"])
    audio_shape = (batch, audio) if audio == 512 else (batch, 77, audio)
    return {
        "audio": drawn(f"input.audio_text{suffix}", audio_shape),
        "video": drawn(f"input.video_text{suffix}", (batch, 77, video)).mean(1),
    }


def ours(x: Tensor, order: Sequence[int] | None) -> Tensor:
    """Turn the authors' order of axes into ours; all of theirs are their own inverse."""
    return x if order is None else x.permute(*order)


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())
