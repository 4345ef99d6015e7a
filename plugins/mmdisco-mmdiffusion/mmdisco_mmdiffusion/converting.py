"""Which of MM-Diffusion's two networks a checkpoint holds, found from the names and shapes of its tensors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from mmdisco_cli.conversion.contract import Candidate, Shapes
from mmdisco_mmdiffusion.enlarger import Enlarger, EnlargerConfig
from mmdisco_mmdiffusion.published import ENLARGER, UNET
from mmdisco_mmdiffusion.sizes import enlarger_config, unet_config
from mmdisco_mmdiffusion.unet import CoupledUNet, UNetConfig

WIDEST, MOST_BLOCKS = 4096, 9
"""Channels of a level, and residual blocks in it, above which sizes are taken for damage."""
_VP_LINEAR = {"name": "vp-linear", "betas": "linear", "start": 1e-4, "end": 0.02, "train_steps": 1000}
_STAGES = ("middle_block", "input_blocks.", "output_blocks.")
Config = UNetConfig | EnlargerConfig


def candidates(format: str, shapes: Shapes, file: str) -> Sequence[Candidate]:  # noqa: A002 - the name of the option
    """Return a network at its released size and at the size that the shapes give; none where they are unlike it."""
    staged = [name for name in shapes if name.startswith(_STAGES)]
    coupled = any("video_in_layers" in name or "video_conv" in name for name in staged)
    if not staged or coupled != (format == UNET):
        return []
    return [_candidate(UNetConfig() if coupled else EnlargerConfig()), *_own(shapes, coupled)]


def about(config: Config) -> dict[str, Any]:
    """Return all that a converted file says of itself: what its shapes give, and what only its authors say."""
    coupled = isinstance(config, UNetConfig)
    options = {name: list(size) if isinstance(size, tuple) else size for name, size in asdict(config).items()}
    attention = range(1, len(config.multipliers)) if isinstance(config, UNetConfig) else config.attention
    return {
        "kind": "backbone",
        "architecture": UNET if coupled else ENLARGER,
        "options": options | {"attention": sorted(attention)},
        "modalities": ["audio", "video"] if coupled else ["video"],
        "prediction": "epsilon",
        "schedule": _VP_LINEAR,
        "licence": "MIT, (c) 2022 Multimedia Research",
    }


def _candidate(config: Config) -> Candidate:
    coupled = isinstance(config, UNetConfig)
    with torch.device("meta"):
        network: nn.Module = CoupledUNet(config) if isinstance(config, UNetConfig) else Enlarger(config)
    title = "MM-Diffusion's coupled U-Net" if coupled else "MM-Diffusion's super-resolution network"
    return Candidate(title, {name: tuple(x.shape) for name, x in network.state_dict().items()}, about(config))


def _own(shapes: Shapes, coupled: bool) -> list[Candidate]:
    """Return the network of the size that shapes give, none where too much is missing, damaged or cannot be built."""
    read: Callable[[Shapes, Mapping[str, Any]], Config] = unet_config if coupled else enlarger_config
    try:
        config = read(shapes, {})
        sane = 0 < config.res_blocks <= MOST_BLOCKS and min(config.multipliers) > 0
        return [_candidate(config)] if sane and config.channels * max(config.multipliers) <= WIDEST else []
    except (KeyError, ValueError, IndexError, TypeError, ZeroDivisionError):
        return []
