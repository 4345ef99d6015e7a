"""The sizes of a network, read from the shapes of its tensors; what shapes do not determine has the released value."""

from collections.abc import Mapping, Sequence
from typing import Any

from mmdisco_mmdiffusion.enlarger import EnlargerConfig
from mmdisco_mmdiffusion.unet import UNetConfig

Shapes = Mapping[str, Sequence[int]]
MOST_STAGES = 100
"""Stages above which a number is taken for damage."""


def unet_config(shapes: Shapes, said: Mapping[str, Any]) -> UNetConfig:
    """Return the sizes of a coupled U-Net; `said` may add heads, head_channels, windows and dilations.

    Raises:
        KeyError, ValueError, TypeError: these are no tensors of one, or no such options.
    """
    stem = "input_blocks.0.0"
    channels, video = shapes[f"{stem}.video_conv.video_conv_spatial.weight"][:2]
    levels, blocks = _levels(shapes)
    defaults = UNetConfig()
    own: dict[str, Any] = {
        "channels": channels,
        "multipliers": _multipliers(shapes, levels, blocks, channels),
        "res_blocks": blocks,
        # Any level below the released depth looks as far as its last one.
        "windows": (*defaults.windows, *defaults.windows[-1:] * levels)[: levels - 1],
        "video_channels": video,
        "audio_channels": shapes[f"{stem}.audio_conv.audio_conv.weight"][1],
    }
    return UNetConfig(**own | _plain(said, ("heads", "head_channels", "windows", "dilations")))


def enlarger_config(shapes: Shapes, said: Mapping[str, Any]) -> EnlargerConfig:
    """Return the sizes of a super-resolution network; `said` may add heads. Errors as for `unet_config`."""
    channels, images = shapes["input_blocks.0.0.weight"][:2]
    levels, blocks = _levels(shapes)
    own: dict[str, Any] = {
        "channels": channels,
        "multipliers": _multipliers(shapes, levels, blocks, channels),
        "res_blocks": blocks,
        "attention": tuple(
            depth for depth in range(levels) if f"input_blocks.{_first(depth, blocks)}.1.qkv.weight" in shapes
        ),
        "image_channels": images // 2,
    }
    return EnlargerConfig(**own | _plain(said, ("heads",)))


def _levels(shapes: Shapes) -> tuple[int, int]:
    """Return the number of levels and of residual blocks in each: a stage up with two blocks ends a level."""
    stages = 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("output_blocks."))
    if stages > MOST_STAGES:
        raise ValueError(f"{stages} stages are more than a U-Net has")
    owners = [
        name.split(".")[1] for name in shapes if name.startswith("output_blocks.") and "emb_layers.1.bias" in name
    ]
    levels = 1 + sum(owners.count(str(stage)) == 2 for stage in range(stages))
    return levels, stages // levels - 1


def _multipliers(shapes: Shapes, levels: int, blocks: int, channels: int) -> tuple[int, ...]:
    widths = [shapes[f"input_blocks.{_first(d, blocks)}.0.emb_layers.1.bias"][0] // 2 for d in range(levels)]
    return tuple(width // channels for width in widths)


def _first(depth: int, blocks: int) -> int:
    """Return the number of the first stage of a level, which also has a stage down."""
    return 1 + depth * (blocks + 1)


def _plain(said: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    found = {name: said[name] for name in names if name in said}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}
