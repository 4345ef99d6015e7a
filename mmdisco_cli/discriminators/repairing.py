"""Fakes by re-pairing without further forward passes, for a discriminator that reads each modality by itself."""

from collections.abc import Mapping
from itertools import islice, permutations

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.diffusion.guidance import Separable

MOST = 64
"""Re-pairings of a batch, at most: three modalities have hundreds."""


class ReadOnce:
    """A `Separable` discriminator with the call of a plain one, which keeps the features of its last call."""

    def __init__(self, discriminator: Separable) -> None:
        self.discriminator = discriminator
        self.read: State = {}

    def __call__(
        self, x: Mapping[str, Tensor], log_snr: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None = None, /
    ) -> Tensor:
        """Return the logit (B,)."""
        self.read = self.discriminator.read(x, log_snr, pooled)
        return self.discriminator.compare(self.read)

    def repaired(self, groups: int) -> Tensor:
        """Return the logits (R, groups, B / groups) of R re-pairings of the B tuples that were read last.

        Tuple i is at the noise levels of tuple i + B / groups, and so on: only such tuples exchange their parts.
        """
        parts = {m: x.unflatten(0, (groups, -1)) for m, x in self.read.items()}
        logits = []
        for shift in shifts(groups, len(parts)):
            moved = {m: x.roll(s, 0) for (m, x), s in zip(parts.items(), shift, strict=True)}
            logits.append(self.discriminator.compare(moved))
        return torch.stack(logits)


def shifts(groups: int, modalities: int) -> list[tuple[int, ...]]:
    """Return by how many groups each modality moves on in each re-pairing: no two of a tuple may stay together."""
    return [(0, *rest) for rest in islice(permutations(range(1, groups), modalities - 1), MOST)]
