"""The discriminator for vector modalities: a residual network on Fourier features, modulated by the noise level.

Residual-score errors after 1,000 steps, with the Fourier features and without: on the two scalars of `gaussians` 0.078
and 0.069 (another seed: 0.076 and 0.067), on the three of `gaussians3`, one seed, 0.197 and 0.235: they help with three
modalities, and training works without them. In one trial on two scalars a scalar head reached 0.10 and the energy form
0.13.
"""

import math
from collections.abc import Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdisco_cli.blocks import LevelEmbedding
from mmdisco_cli.discriminators.options import MLPOptions

LONGEST, SHORTEST = 8.0, 1.5
"""Wavelengths of the features, for states of variance about 1; a shortest of 0.6 was worse (0.079, not 0.074)."""
LEVEL_WIDTH = 32
"""Features of a noise level: few, because its modulation would otherwise cost more than the layers it modulates."""


class VectorMLP(nn.Module):
    """A logit (B,) from vectors (B, C), one a modality, already divided by sqrt(alpha^2 + sigma^2)."""

    frequencies: Tensor

    def __init__(self, options: MLPOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]) -> None:
        super().__init__()
        if wrong := [m for m, shape in shapes.items() if len(shape) != 1]:
            raise ValueError(f"mlp takes vectors only, not {' and '.join(wrong)}")
        self.names = tuple(shapes)
        waves = torch.logspace(math.log10(LONGEST), math.log10(SHORTEST), options.frequencies)
        self.register_buffer("frequencies", 2 * math.pi / waves, persistent=False)
        self.conditions = tuple(m for m in shapes if pooled.get(m))
        size = sum(shape[0] for shape in shapes.values()) * (1 + 2 * options.frequencies)
        widths = [size + sum(pooled[m] for m in self.conditions), *[options.width] * options.depth]
        self.level = nn.ModuleDict({m: LevelEmbedding(LEVEL_WIDTH) for m in shapes})
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.modulations = nn.ModuleList(nn.Linear(LEVEL_WIDTH, 2 * options.width) for _ in self.layers)
        self.head, self.bias = nn.Linear(options.width, 1), nn.Linear(LEVEL_WIDTH, 1)
        for layer in (self.head, self.bias):  # begin at chance
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(
        self, x: Mapping[str, Tensor], log_snr: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return the logit (B,)."""
        embedded = [embed(log_snr[m]) for m, embed in self.level.items()]
        level = torch.stack(embedded).mean(0)
        h = torch.cat([self._lift(x), *((pooled or {})[m] for m in self.conditions)], dim=1)
        for number, (layer, modulate) in enumerate(zip(self.layers, self.modulations, strict=True)):
            scale, shift = modulate(level).chunk(2, dim=1)
            update = F.silu(layer(h) * (1 + scale) + shift)
            h = h + update if number else update
        # In pure noise real and fake have one distribution. The factor alpha^2 / (alpha^2 + sigma^2) takes the logit to
        # 0 there, so that no training example is spent on learning it.
        signal = torch.stack([torch.sigmoid(2 * log_snr[m]) for m in self.names]).mean(0)
        logit: Tensor = (self.head(h) + self.bias(level))[:, 0] * signal
        return logit

    def _lift(self, x: Mapping[str, Tensor]) -> Tensor:
        points = torch.cat([x[m] for m in self.names], dim=1)
        angles = points[..., None] * self.frequencies
        return torch.cat([points, angles.sin().flatten(1), angles.cos().flatten(1)], dim=1)


def build(options: MLPOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]) -> VectorMLP:
    """Build the discriminator of a recipe; raise ValueError where a modality is not a vector."""
    return VectorMLP(options, shapes, pooled)
