"""The energy discriminator for modalities without a common time axis: a joint transformer over patches of any shapes.

As in `energy`, l(x, u) = sum_m <x^m, n_m(x, u)>, but each modality is cut into patches of its own, and attention
relates them all: images, audio, video, and texts and vectors, which are one patch each, in any number.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmdisco_cli.blocks import LevelEmbedding, TransformerBlock, map_rows, modulated_norm, patchify, unpatchify, zero
from mmdisco_cli.discriminators.options import PatchesOptions
from mmdisco_cli.discriminators.trunk import embedded_conditions


class PatchEnergy(nn.Module):
    """A logit (B,) from latents (B, *shape), one a modality, already divided by sqrt(alpha^2 + sigma^2)."""

    def __init__(
        self, options: PatchesOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]
    ) -> None:
        super().__init__()
        width = options.width
        self.shapes = {m: shape if len(shape) > 1 else (*shape, 1) for m, shape in shapes.items()}
        self.patches = {m: patch_of(shape[1:], options.tokens) for m, shape in self.shapes.items()}
        self.counts = {m: token_count(shape[1:], self.patches[m]) for m, shape in self.shapes.items()}
        values = {m: shape[0] * math.prod(self.patches[m]) for m, shape in self.shapes.items()}
        self.embed = nn.ModuleDict({m: nn.Linear(size, width) for m, size in values.items()})
        self.position = nn.ParameterDict(
            {m: nn.Parameter(torch.randn(count, width) * 0.02) for m, count in self.counts.items()}
        )
        self.level = nn.ModuleDict({m: LevelEmbedding(width) for m in shapes})
        self.prompt = nn.ModuleDict({m: nn.Linear(size, width) for m, size in pooled.items() if size})
        self.modulate = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(TransformerBlock(width, options.heads) for _ in range(options.depth))
        self.modulate_out = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.heads = nn.ModuleDict({m: nn.Linear(width, size) for m, size in values.items()})
        self.bias = nn.Linear(width, 1)
        # Beginning at zero, prompts change nothing of a discriminator that goes on from one without them.
        zero(self.modulate, self.modulate_out, self.heads, self.bias, *self.prompt.values())

    def forward(
        self, x: Mapping[str, Tensor], log_snr: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return the logit (B,)."""
        states = {m: x[m].reshape(-1, *shape) for m, shape in self.shapes.items()}
        features, level = self._features(states, log_snr, pooled)
        logit: Tensor = map_rows([self.bias], level)[:, 0].float()
        for m, state in states.items():
            estimate = unpatchify(self.heads[m](features[m]), self.shapes[m], self.patches[m])
            # Signal over noise, bounded: this gives the gradient the magnitude of the residual score.
            gain = torch.sigmoid(log_snr[m] + math.log(2)).view(-1, *[1] * (state.ndim - 1))
            logit = logit + (state * gain * estimate).flatten(1).float().sum(1)
        return logit

    def _features(
        self, states: Mapping[str, Tensor], log_snr: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the features (B, N, width) of each modality and the embedding of levels and prompts (B, width)."""
        level = embedded_conditions(self.level, self.prompt, {m: log_snr[m] for m in self.shapes}, pooled)
        embedded = [self.embed[m](patchify(states[m], self.patches[m])) + self.position[m] for m in self.shapes]
        tokens = torch.cat(embedded, 1)
        modulation = map_rows(self.modulate, level).unflatten(1, (6, -1))
        for block in self.blocks:
            tokens = block(tokens, modulation)
        shift, scale = map_rows(self.modulate_out, level)[:, None].chunk(2, dim=-1)
        parts = modulated_norm(tokens, shift, scale).split(list(self.counts.values()), 1)
        return dict(zip(self.counts, parts, strict=True)), level


def patch_of(sizes: tuple[int, ...], most: int) -> tuple[int, ...]:
    """Return the smallest patch, grown along the axis of most patches, that cuts `sizes` into at most `most`."""
    patch = [1] * len(sizes)
    while token_count(sizes, tuple(patch)) > most:
        axis = max(range(len(sizes)), key=lambda k: sizes[k] // patch[k])
        patch[axis] = next(p for p in range(patch[axis] + 1, sizes[axis] + 1) if sizes[axis] % p == 0)
    return tuple(patch)


def token_count(sizes: tuple[int, ...], patch: tuple[int, ...]) -> int:
    """Return how many patches cut `sizes`."""
    return math.prod(size // p for size, p in zip(sizes, patch, strict=True))


def build(options: PatchesOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]) -> PatchEnergy:
    """Build the discriminator of a recipe."""
    return PatchEnergy(options, shapes, pooled)
