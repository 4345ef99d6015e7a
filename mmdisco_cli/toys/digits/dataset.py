"""The digits data set: pairs of a real recording and a real image of one digit, and its name."""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.toys.digits.options import DigitsOptions
from mmdisco_cli.toys.digits.sources import find_spoken, find_written
from mmdisco_cli.toys.digits.spoken import Spoken, open_spoken
from mmdisco_cli.toys.digits.written import SIDE, Written, drawn, open_written

VERSION = 1
"""Raised whenever the same index would give another pair."""
MODALITIES = ("audio", "image", "word")
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LONGEST = max(map(len, WORDS))
SECONDS, SAMPLE_RATE = 1.0, 16000


@dataclass(frozen=True)
class Pair:
    """What one index stands for: the digit that is spoken and named, and the places of a recording and an image."""

    digit: int
    recording: int | None
    image: int | None


@dataclass(frozen=True)
class Digits:
    """Pairs by index, of what is wanted of recordings and images; words need neither."""

    options: DigitsOptions
    spoken: Spoken | None
    written: Written | None
    side: int = SIDE
    part: str = "train"

    @property
    def length(self) -> int:
        """Return the number of pairs."""
        return self.options.pairs if self.part == "train" else max(self.options.pairs // 10, 1)

    @property
    def report(self) -> Sequence[str]:
        """Return a line for each kind of file that is left out."""
        return self.spoken.report if self.spoken else ()

    @cached_property
    def fingerprint(self) -> str:
        """Name the exact pairs."""
        o, sources = self.options, [one.fingerprint if one else "" for one in (self.spoken, self.written)]
        chosen = f"{o.pairs}:{o.wrong}:{o.slant}:{o.invert}:{o.seed}:{self.side}:{self.part}:{sources}"
        return f"digits-{VERSION}:{hashlib.sha256(chosen.encode()).hexdigest()[:16]}"

    def split(self, part: str) -> "Digits":
        """Return the `train` or `heldout` pairs, or those of `judges`; raise DataError where a digit has none."""
        for source, key in ((self.spoken, "spoken"), (self.written, "written")):
            lacking = sorted(set(range(10)) - source.places[part].keys()) if source else []
            if lacking:
                raise DataError(f"data.{key}: the part {part} has nothing of {', '.join(WORDS[d] for d in lacking)}")
        return replace(self, part=part)

    def pair(self, index: int) -> Pair:
        """Return what an index stands for; each draw depends on the seed, the part and the index alone."""
        digit = self._draw("digit", index, range(10))
        shown = digit
        if self.part == "train" and self._rng("wrong", index).random() < self.options.wrong:
            shown = self._draw("other", index, [other for other in range(10) if other != digit])
        recordings = self.spoken.places[self.part][digit] if self.spoken else None
        images = self.written.places[self.part][shown] if self.written else None
        return Pair(
            digit,
            self._draw("recording", index, recordings) if recordings else None,
            self._draw("image", index, images) if images else None,
        )

    def media(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, Tensor]:
        """Return {"audio": (B, 1, samples), "image": (B, 1, side, side), "word": (B, 5)}, only the modalities named."""
        pairs = [self.pair(index) for index in indices]
        made: dict[str, Tensor] = {}
        if "audio" in modalities and self.spoken:
            made["audio"] = self.spoken.stacked([p.recording for p in pairs if p.recording is not None])
        if "image" in modalities and self.written:
            places = [p.image for p in pairs if p.image is not None]
            made["image"] = drawn(self.written.images[places], self.side, self.options.slant, self.options.invert)
        if "word" in modalities:
            made["word"] = torch.stack([code_points(WORDS[p.digit]) for p in pairs])
        return made

    def labels(self, indices: Sequence[int]) -> list[str]:
        """Return the digit of each pair, of a wrong one that which is spoken."""
        return [str(self.pair(index).digit) for index in indices]

    def _draw(self, what: str, index: int, of: Sequence[int]) -> int:
        return of[self._rng(what, index).randrange(len(of))]

    def _rng(self, what: str, index: int) -> random.Random:
        return random.Random(f"{self.options.seed}:{self.part}:{what}:{index}")


def code_points(text: str, length: int = LONGEST) -> Tensor:
    """Return a text as the numbers of its characters (length,), zeros behind it."""
    return torch.tensor([ord(c) for c in text] + [0] * (length - len(text)), dtype=torch.float32)


def build(options: DigitsOptions, request: Request, modalities: Sequence[str] = MODALITIES) -> Digits:
    """Build the data set of a recipe; what the request leaves open is 1 s and 28 x 28 pixels.

    Raises:
        KeyError: of a modality that it does not have.
        UsageError: nothing names the recordings or images that are wanted, or their shape is impossible.
        DataError: they cannot be read or downloaded.
    """
    for modality in modalities:
        if modality not in MODALITIES:
            raise KeyError(modality)
    spoken = written = None
    if "audio" in modalities:
        seconds = SECONDS if request.seconds is None else request.seconds
        spoken = open_spoken(find_spoken(options), options.speakers, seconds, SAMPLE_RATE)
    if "image" in modalities:
        written = open_written(find_written(options))
    return Digits(options, spoken, written, _side(request))


def _side(request: Request) -> int:
    side = SIDE if request.height is None else request.height
    if side < SIDE or (request.width is not None and request.width != side):
        raise UsageError(f"request.height: digits are square, of at least {SIDE} pixels, not {side} by {request.width}")
    return side
