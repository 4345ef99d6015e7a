"""The bounce data set: an endless, seeded supply of clips in which every impact is visible and audible."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import UsageError
from mmdisco_cli.toys.bounce.captions import KINDS, RADII, Kind, caption, content, label
from mmdisco_cli.toys.bounce.options import BounceOptions
from mmdisco_cli.toys.bounce.render import FPS, FRAMES, render_audio, render_video
from mmdisco_cli.toys.bounce.scene import SECONDS, SIZE, Place, Scene, draw_places, draw_scene

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
        o = self.options
        # Written out, since a sequence without captions keeps the name that it had before there were any.
        captions = ", captions=True" if o.captions else ""
        options = f"BounceOptions(objects={o.objects}, misalignment={o.misalignment}, seed={o.seed}{captions})"
        return f"bounce-{VERSION}:{options}:{self.size}:{self.part}"

    def split(self, part: str) -> "Bounce":
        """Return the `train` or `heldout` sequence."""
        return replace(self, part=part)

    def scene(self, index: int) -> Scene:
        """Return the scene that clip `index` shows."""
        return self._draw(f"{self.options.seed}:{self.part}", index)

    def audio_scene(self, index: int) -> Scene:
        """Return the scene that clip `index` sounds like: the same, but for the misaligned fraction."""
        rng = random.Random(f"{self.options.seed}:{self.part}:misalign:{index}")
        if rng.random() < self.options.misalignment:
            return self._draw(f"{self.options.seed}:{self.part}:other", index)
        return self.scene(index)

    def _draw(self, seed: str, index: int) -> Scene:
        draw = draw_captioned_scene if self.options.captions else draw_scene
        return draw(seed, index, self.options.objects)

    def content(self, index: int) -> tuple[Kind, ...]:
        """Return what the caption of clip `index` says: the kinds of its balls."""
        return content(self.scene(index).balls)

    def captions(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, list[str]]:
        """Return a sentence for each clip, the same for all modalities; empty ones with `data.captions: false`.

        Held-out clips are described in wordings that no clip to train on has.
        """
        texts = [self._caption(i) if self.options.captions else "" for i in indices]
        return {m: list(texts) for m in modalities}

    def labels(self, indices: Sequence[int]) -> list[str]:
        """Return for each clip what its caption says, the same however it is worded; empty without captions."""
        return [label(self.content(i)) if self.options.captions else "" for i in indices]

    def _caption(self, index: int) -> str:
        rng = random.Random(f"{self.options.seed}:{self.part}:caption:{index}")
        return caption(self.content(index), rng, heldout=self.part == "heldout")

    def media(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, Tensor]:
        """Return {"audio": (B, 1, 25600), "video": (B, 3, 16, size, size)}, only the modalities named."""
        made = {}
        if "audio" in modalities:
            made["audio"] = torch.stack([render_audio(self.audio_scene(i)) for i in indices])
        if "video" in modalities:
            made["video"] = torch.stack([render_video(self.scene(i), self.size) for i in indices])
        return made


def draw_captioned_scene(seed: str, index: int, lanes: int) -> Scene:
    """Draw scene `index` of the captioned data set `seed`: from 1 to `lanes` balls, all of different kinds."""
    rng = random.Random(f"{seed}:captioned:{index}")
    count = rng.randint(1, lanes)
    taken, kinds = sorted(rng.sample(range(lanes), count)), rng.sample(KINDS, count)
    places = [Place(lane, kind.material, RADII[kind.size]) for lane, kind in zip(taken, kinds, strict=True)]
    return draw_places(rng, places, lanes)


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
