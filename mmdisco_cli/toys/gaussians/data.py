"""The gaussians data set: scalars from a mixture whose joint score is known, to measure a discriminator's gradient by.

Each modality alone is a comb of equally likely values; the joint distribution alone knows which occur together.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.toys.gaussians.mixture import Mixture, latin_mixture
from mmdisco_cli.toys.gaussians.options import GaussiansOptions

VERSION = 1
"""Raised whenever the same index would give another point."""

NAMES = ("x", "y", "z")
BLOCK = 4096
"""Points drawn from one generator: point i is row i % BLOCK of block i // BLOCK, whatever is drawn beside it."""


@dataclass(frozen=True)
class Gaussians:
    """Points by index; `split` picks one of two sequences of independent draws."""

    options: GaussiansOptions
    part: str = "train"
    length: int | None = None
    report: tuple[str, ...] = ()
    _blocks: dict[int, Tensor] = field(default_factory=dict, compare=False, repr=False)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Return the names of the scalars, in the order of the mixture's columns."""
        return NAMES[: self.options.modalities]

    @property
    def mixture(self) -> Mixture:
        """Return the joint distribution."""
        return latin_mixture(self.options.modalities, self.options.levels, self.options.spread)

    @property
    def fingerprint(self) -> str:
        """Name the exact sequence of points."""
        return f"gaussians-{VERSION}:{self.options}:{self.part}"

    def split(self, part: str) -> "Gaussians":
        """Return the `train` or `heldout` sequence."""
        return replace(self, part=part, _blocks={})

    def media(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, Tensor]:
        """Return {"x": (B, 1), ...}, only the modalities named."""
        wanted = torch.as_tensor(indices, dtype=torch.long)
        points = torch.empty(len(wanted), len(self.modalities))
        for number in (wanted // BLOCK).unique().tolist():
            inside = wanted // BLOCK == number
            points[inside] = self._block(number)[wanted[inside] % BLOCK]
        return {m: points[:, [k]] for k, m in enumerate(self.modalities) if m in modalities}

    def _block(self, number: int) -> Tensor:
        if number not in self._blocks:
            digest = hashlib.sha256(f"{self.fingerprint}:{number}".encode()).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
            self._blocks.clear()  # indices mostly rise: one block is enough, and an endless run stays small
            self._blocks[number] = self.mixture.draw(BLOCK, generator)
        return self._blocks[number]


def build(options: GaussiansOptions, request: Request) -> Gaussians:
    """Build the data set of a recipe; points have no length, so nothing of the request applies."""
    return Gaussians(options)
