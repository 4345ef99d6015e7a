"""Which of the known networks a checkpoint holds, told from its names and shapes, and how it falls short."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from mmdisco_cli.conversion.published import ENLARGER, UNET
from mmdisco_cli.conversion.unet_shapes import (
    RELEASED_COUPLED,
    RELEASED_ENLARGER,
    Shape,
    UNetSizes,
    coupled_shapes,
    enlarger_shapes,
    sizes_of,
)
from mmdisco_cli.paper.configs import RELEASED, Released
from mmdisco_cli.paper.discriminator import PaperDiscriminator

WIDEST = 4096
"""Channels beyond which a width comes from damage."""
SHOWN = 3
"""Misfits that a message names."""
_STEM = "feature_extractor.input_blocks.0.0.video_conv.video_conv_spatial.weight"
_TITLES = {UNET: "MM-Diffusion's coupled U-Net", ENLARGER: "MM-Diffusion's super-resolution network"}
_WINDOWS = (1, 4, 8)
_UNSEEN: dict[str, dict[str, Any]] = {
    UNET: {"heads": 4, "head_channels": 64, "dilations": 10},
    ENLARGER: {"heads": 4},
}
"""What no shape of a tensor tells, as released."""


@dataclass(frozen=True)
class Candidate:
    """A network that a checkpoint may hold: its `--format`, what it is called, and the tensors it must have."""

    format: str
    title: str
    shapes: Mapping[str, Shape]
    sizes: UNetSizes | None = None
    released: Released | None = None

    def misfits(self, found: Mapping[str, Sequence[int]]) -> list[str]:
        """Return in clauses every tensor that is missing, surplus or of another shape."""
        wrong = [f"missing {name}" for name in self.shapes if name not in found]
        wrong += [f"surplus {name}" for name in found if name not in self.shapes]
        both = (name for name in self.shapes if name in found)
        return wrong + [
            f"{name} is {tuple(found[name])}, not {self.shapes[name]}"
            for name in both
            if tuple(found[name]) != self.shapes[name]
        ]


def nearest(found: Mapping[str, Sequence[int]], aist: bool = False) -> Candidate | None:
    """Return the network that shapes fit best, None where they remind of none.

    Landscape and AIST++ share their architectures: `aist` chooses.
    """
    candidates = [make() for make in _makers(found, aist)]
    return min(candidates, key=lambda candidate: len(candidate.misfits(found)), default=None)


def describe_misfits(misfits: Sequence[str]) -> str:
    """Return the first few misfits, and how many more there are."""
    more = len(misfits) - SHOWN
    return "; ".join(misfits[:SHOWN]) + (f"; and {more} more" if more > 0 else "")


def discriminator_shapes(released: Released, channels: int | None = None) -> dict[str, Shape]:
    """Return the tensors of a released discriminator, at another width where `channels` says so."""
    options = replace(released.options, channels=channels or released.options.channels)
    with torch.device("meta"):
        network = PaperDiscriminator(options, released.shapes, released.texts)
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _makers(found: Mapping[str, Sequence[int]], aist: bool) -> list[Callable[[], Candidate]]:
    if any(name.startswith(("feature_extractor.", "fusion_model.", "last_linear.")) for name in found):
        return _discriminators(found, aist)
    if any("video_in_layers" in name or "video_conv" in name for name in found):
        return _networks(found, UNET, coupled_shapes, RELEASED_COUPLED)
    if any(name.startswith(("middle_block.", "input_blocks.", "output_blocks.")) for name in found):
        return _networks(found, ENLARGER, enlarger_shapes, RELEASED_ENLARGER)
    return []


def _discriminators(found: Mapping[str, Sequence[int]], aist: bool) -> list[Callable[[], Candidate]]:
    def maker(name: str, released: Released, channels: int | None) -> Callable[[], Candidate]:
        own = released if channels is None else replace(released, options=replace(released.options, channels=channels))
        return lambda: Candidate(name, f"discriminator {name}", discriminator_shapes(own), released=own)

    stem = found.get(_STEM, ())
    # A width that the authors never released, as in small networks for tests: all must agree on it.
    other = len(stem) == 4 and stem[0] % 32 == 0 and stem[0] != 128 and 0 < stem[0] <= WIDEST
    widths = [None, *([stem[0]] if other else [])]
    names = [name for name in RELEASED if not name.startswith("mmdiffusion_") or ("aist" in name) == aist]
    return [maker(name, RELEASED[name], width) for width in widths for name in names]


def _networks(
    found: Mapping[str, Sequence[int]], kind: str, shapes: Callable[[UNetSizes], dict[str, Shape]], released: UNetSizes
) -> list[Callable[[], Candidate]]:
    def maker(sizes: UNetSizes) -> Callable[[], Candidate]:
        return lambda: Candidate(kind, _TITLES[kind], shapes(sizes), sizes=sizes)

    try:
        own = [sizes_of(found, kind == UNET)]
    except (KeyError, ValueError, IndexError, ZeroDivisionError):
        own = []
    # Widths of 0 or a hundred levels come from damage: only sizes that can be built are tried.
    return [maker(sizes) for sizes in [released, *(s for s in own if 0 < s.blocks < 10 and min(s.multipliers) > 0)]]


def options_of(candidate: Candidate) -> dict[str, Any]:
    """Return all that building a network takes as plain data: what its shapes tell, and what only its authors say."""
    sizes = candidate.sizes
    if sizes is None:
        return {}
    told = {
        "channels": sizes.channels,
        "multipliers": list(sizes.multipliers),
        "res_blocks": sizes.blocks,
        "attention": sorted(sizes.attention),
        **_UNSEEN[candidate.format],
    }
    if candidate.format == ENLARGER:
        return told | {"image_channels": sizes.inputs[0] // 2}
    video, audio = sizes.inputs
    # In frames, for every level below the first; any beyond the released depth look as far as its last one.
    windows = [_WINDOWS[min(level, len(_WINDOWS) - 1)] for level in range(sizes.levels - 1)]
    return told | {"windows": windows, "video_channels": video, "audio_channels": audio}
