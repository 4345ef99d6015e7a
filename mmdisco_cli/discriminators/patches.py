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

SLOPE = 8.0
"""What the derivative of x_0 by x is taken for, times a gain between 0 and 1; guidance weights multiply it."""


class PatchEnergy(nn.Module):
    """A logit (B,) from latents (B, *shape), one a modality, already divided by sqrt(alpha^2 + sigma^2).

    With `reads_x0` it also reads the base models' x_0. In training its inputs are then detached, and the gradient by x
    is n itself, which takes no second derivative. In sampling the gradient of what it says of x_0 is added: that takes
    the derivative of x_0 by x, which would cost a backward pass of each base model, to be `SLOPE` at a log-SNR where it
    is about to be known. n learns what a denoiser under the other modalities would, late; whether x_0 fits them, soon.
    """

    def __init__(
        self, options: PatchesOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]
    ) -> None:
        super().__init__()
        width = options.width
        self.reads_x0 = options.reads_x0
        self.shapes = {m: shape if len(shape) > 1 else (*shape, 1) for m, shape in shapes.items()}
        self.patches = {m: patch_of(shape[1:], options.tokens) for m, shape in self.shapes.items()}
        self.counts = {m: token_count(shape[1:], self.patches[m]) for m, shape in self.shapes.items()}
        values = {m: shape[0] * math.prod(self.patches[m]) for m, shape in self.shapes.items()}
        views = 2 if self.reads_x0 else 1
        self.embed = nn.ModuleDict({m: nn.Linear(views * size, width) for m, size in values.items()})
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
        self.verdict = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))
        zero(self.modulate, self.modulate_out, self.heads, self.bias, self.verdict[2])

    def forward(
        self,
        x: Mapping[str, Tensor],
        log_snr: Mapping[str, Tensor],
        pooled: Mapping[str, Tensor] | None = None,
        x0: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the logit (B,)."""
        states = {m: x[m].reshape(-1, *shape) for m, shape in self.shapes.items()}
        # Signal over noise, bounded: this gives the gradient the magnitude of the residual score.
        gains = {m: torch.sigmoid(log_snr[m] + math.log(2)).view(-1, *[1] * (s.ndim - 1)) for m, s in states.items()}
        views = {m: self._views(state, gains[m], x0[m] if x0 else None) for m, state in states.items()}
        features, level = self._features(views, log_snr, pooled)
        logit: Tensor = map_rows([self.bias], level)[:, 0].float()
        logit = logit + self.verdict(torch.cat(list(features.values()), 1).mean(1))[:, 0].float()
        for m, state in states.items():
            estimate = unpatchify(self.heads[m](features[m]), self.shapes[m], self.patches[m])
            logit = logit + (state * gains[m] * estimate).flatten(1).float().sum(1)
        return logit

    def _views(self, state: Tensor, gain: Tensor, x0: Tensor | None) -> list[Tensor]:
        """Return what the network reads of one modality: its state, and the base model's x_0 where it is known."""
        if x0 is None:
            return [state]
        x0 = x0.reshape(state.shape)
        # Adds nothing, but has a gradient.
        moved = 0 if self.training else SLOPE * gain * (state - state.detach())
        return [state.detach(), x0 + moved]

    def _features(
        self,
        views: Mapping[str, list[Tensor]],
        log_snr: Mapping[str, Tensor],
        pooled: Mapping[str, Tensor] | None,
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the features (B, N, width) of each modality and the embedding of levels and prompts (B, width)."""
        level = embedded_conditions(self.level, self.prompt, {m: log_snr[m] for m in self.shapes}, pooled)
        embedded = [
            self.embed[m](torch.cat([patchify(view, self.patches[m]) for view in views[m]], -1)) + self.position[m]
            for m in self.shapes
        ]
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
