"""The built-in denoising network: a small transformer over patches of latents (C, T), (C, T, F) or (C, T, H, W)."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmdisco_cli.backbones.text import TextEncoder
from mmdisco_cli.blocks import LevelEmbedding, TransformerBlock, map_rows, modulated_norm, patchify, unpatchify, zero

TEXT_GAIN = 4.0
"""A text's layers count so much more than their weights: a text affects little of the loss, and is learnt slowly."""


class TokenDenoiser(nn.Module):
    """Predict the clean latent from a noisy one of log-SNR (B,).

    The output is x_0 itself ("sample" prediction): clean latents lie on a low-dimensional manifold, so a patch far
    wider than the network can still be predicted, which noise cannot (Li & He, arXiv 2511.13720).

    With a `text` size above 0 it takes embeddings of captions as well, which modulate each block by a layer of its own.
    """

    def __init__(
        self, latent_shape: tuple[int, ...], patch: tuple[int, ...], width: int, depth: int, heads: int, text: int = 0
    ) -> None:
        super().__init__()
        channels, *sizes = latent_shape
        values = channels * math.prod(patch)
        tokens = math.prod(size // p for size, p in zip(sizes, patch, strict=True))
        self.latent_shape, self.patch = latent_shape, patch
        self.embed = nn.Linear(values, width)
        self.position = nn.Parameter(torch.randn(tokens, width) * 0.02)
        self.level = LevelEmbedding(width)
        self.modulate = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(depth))
        self.modulate_head = nn.Sequential(nn.SiLU(), nn.Linear(width, 2 * width))
        self.head = nn.Linear(width, values)
        zero(self.modulate, self.modulate_head)
        nn.init.zeros_(self.head.weight)
        if text:
            self.text = TextEncoder(text)
            self.by_text = nn.ModuleList(nn.Linear(text, 6 * width) for _ in range(depth))
            zero(*self.by_text)

    def forward(self, x: Tensor, log_snr: Tensor, text: Tensor | None = None) -> Tensor:
        """Return x_0 as predicted from noisy latents (B, *latent_shape), divided by sqrt(alpha^2 + sigma^2) before.

        `text` are the embeddings (B, size) of the captions, which a denoiser that takes them must be given.
        """
        level = self.level(log_snr)
        modulation = map_rows(self.modulate, level).unflatten(1, (6, -1))
        tokens = self.embed(patchify(x, self.patch)) + self.position
        for block, own in zip(self.blocks, self._by_text(text), strict=True):
            tokens = block(tokens, modulation + own)
        shift, scale = map_rows(self.modulate_head, level)[:, None].chunk(2, dim=-1)
        return unpatchify(self.head(modulated_norm(tokens, shift, scale)), self.latent_shape, self.patch)

    def keep_base(self) -> None:
        """Leave untrained what a model shares with the one that it goes on from, so that its own file is half as large.

        These are the layers that depend on the noise level alone, and a third of every block.
        """
        kept = (self.level, self.modulate, self.modulate_head, *(block.up for block in self.blocks))
        for layer in kept:
            layer.requires_grad_(False)

    def _by_text(self, text: Tensor | None) -> Sequence[Tensor | float]:
        """Return what a text adds to each block's modulation, (B, 6, width), nothing where it takes none."""
        if not hasattr(self, "by_text"):
            return [0.0] * len(self.blocks)
        if text is None:
            raise ValueError("a denoiser that takes captions needs their embeddings, be it of the empty text")
        return [TEXT_GAIN * map_rows([layer], text).unflatten(1, (6, -1)) for layer in self.by_text]
