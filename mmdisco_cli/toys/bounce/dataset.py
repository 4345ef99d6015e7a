"""The bounce data set: an endless, seeded supply of clips in which every impact is visible and audible."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import UsageError
from mmdisco_cli.toys.bounce.options import BounceOptions
from mmdisco_cli.toys.bounce.render import FPS, FRAMES, render_audio, render_video
from mmdisco_cli.toys.bounce.scene import SECONDS, SIZE, Scene, draw_scene

VERSION = 1
"""Raised whenever the same index would give another clip."""
MOST_OBJECTS = 3


@dataclass(frozen=True)
class Bounce:
    """Clips by index; `split` picks one of two sequences that share no scene."""

    options: BounceOptions
    size: int = 64
    part: str = "train"
    length: int | None = None
    report: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Name the exact sequence of clips."""
        return f"bounce-{VERSION}:{self.options}:{self.size}:{self.part}"

    def split(self, part: str) -> "Bounce":
        """Return the `train` or `heldout` sequence."""
        return replace(self, part=part)

    def scene(self, index: int) -> Scene:
        """Return the scene that clip `index` shows."""
        return draw_scene(f"{self.options.seed}:{self.part}", index, self.options.objects)

    def audio_scene(self, index: int) -> Scene:
        """Return the scene that clip `index` sounds like: the same, but for the misaligned fraction."""
        rng = random.Random(f"{self.options.seed}:{self.part}:misalign:{index}")
        if rng.random() < self.options.misalignment:
            return draw_scene(f"{self.options.seed}:{self.part}:other", index, self.options.objects)
        return self.scene(index)

    def media(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, Tensor]:
        """Return {"audio": (B, 1, 25600), "video": (B, 3, 16, size, size)}, only the modalities named."""
        made = {}
        if "audio" in modalities:
            made["audio"] = torch.stack([render_audio(self.audio_scene(i)) for i in indices])
        if "video" in modalities:
            made["video"] = torch.stack([render_video(self.scene(i), self.size) for i in indices])
        return made


def build(options: BounceOptions, request: Request) -> Bounce:
    """Build the data set of a recipe; what the request leaves open is 64 x 64 pixels.

    Raises:
        UsageError: the clips cannot have that length, rate, shape or number of objects; the key is named.
    """
    if options.objects > MOST_OBJECTS:
        raise UsageError(
            f"data.objects: bounce holds at most {MOST_OBJECTS}, not {options.objects}: each ball has a lane of its "
            "own, and a fourth would be narrower than the largest ball"
        )
    for key, made in (("frames", FRAMES), ("fps", FPS), ("seconds", SECONDS)):
        wanted = getattr(request, key)
        if wanted is not None and not math.isclose(wanted, made):
            raise UsageError(f"request.{key}: bounce clips have {made}, not {wanted}")
    if request.height != request.width:
        raise UsageError(f"request.height: bounce clips are square, not {request.height} by {request.width} pixels")
    return Bounce(options, SIZE if request.height is None else request.height)
