"""The built-in denoising network: a small transformer over patches of latents (C, T), (C, T, F) or (C, T, H, W)."""

import math

import torch
from torch import Tensor, nn

from mmdisco_cli.blocks import LevelEmbedding, TransformerBlock, map_rows, modulated_norm, patchify, unpatchify, zero


class TokenDenoiser(nn.Module):
    """Predict the clean latent from a noisy one of log-SNR (B,).

    The output is x_0 itself ("sample" prediction): clean latents lie on a low-dimensional manifold, so a patch far
    wider than the network can still be predicted, which noise cannot (Li & He, arXiv 2511.13720).
    """

    def __init__(
        self, latent_shape: tuple[int, ...], patch: tuple[int, ...], width: int, depth: int, heads: int
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

    def forward(self, x: Tensor, log_snr: Tensor) -> Tensor:
        """Return x_0 as predicted from noisy latents (B, *latent_shape), divided by sqrt(alpha^2 + sigma^2) before."""
        level = self.level(log_snr)
        modulation = map_rows(self.modulate, level).unflatten(1, (6, -1))
        tokens = self.embed(patchify(x, self.patch)) + self.position
        for block in self.blocks:
            tokens = block(tokens, modulation)
        shift, scale = map_rows(self.modulate_head, level)[:, None].chunk(2, dim=-1)
        return unpatchify(self.head(modulated_norm(tokens, shift, scale)), self.latent_shape, self.patch)
