"""Mixtures of Gaussians, for which everything that a diffusion model estimates is known in closed form."""

import math
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor


@dataclass(frozen=True)
class Mixture:
    """Equally likely Gaussians around `means` (K, M), one column a scalar modality, all of one standard deviation."""

    means: Tensor
    std: float

    def marginal(self, column: int) -> "Mixture":
        """Return the mixture of one modality alone, its equal modes merged."""
        return Mixture(self.means[:, column].unique()[:, None], self.std)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Return points (count, M)."""
        mode = torch.randint(len(self.means), (count,), generator=generator)
        return self.means[mode] + self.std * torch.randn(count, self.means.shape[1], generator=generator)

    def denoise(self, x: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Return the expected x_0 and epsilon (B, M) given x (B, M) at alpha and sigma, (B, M) or (B, 1) or (1, 1).

        Epsilon is -sigma times the score of p_u at x.
        """
        means, signal = self.means.to(x), (alpha * self.std).square()
        variance = signal + sigma.square()
        gap = x[:, None] - alpha[:, None] * means  # (B, K, M)
        # The modes' normalising constants are equal, and cancel.
        share = (-gap.square() / (2 * variance[:, None])).sum(2).softmax(1)[..., None]
        x0 = share * (means + (alpha * self.std**2 / variance)[:, None] * gap)
        return x0.sum(1), (share * gap).sum(1) * sigma / variance

    def on_modes(self, x: Tensor, radius: float = 3.5) -> float:
        """Return the share of points (N, M) within `radius` standard deviations of some mode."""
        return float((self.modes_of(x, radius) >= 0).float().mean())

    def modes_of(self, x: Tensor, radius: float = 3.5) -> Tensor:
        """Return the nearest mode (N,) of each point (N, M), -1 where it is more than `radius` deviations away."""
        distance, nearest = torch.cdist(x, self.means.to(x)).min(1)
        return torch.where(distance <= radius * self.std, nearest, -1)


def grid_levels(levels: int, std: float) -> Tensor:
    """Return the evenly spaced values (levels,) whose mixture of this standard deviation has variance 1."""
    spacing = math.sqrt(12 * (1 - std**2) / (levels**2 - 1))
    return (torch.arange(levels) - (levels - 1) / 2) * spacing


def latin_mixture(modalities: int, levels: int, std: float) -> Mixture:
    """Return levels^(modalities - 1) modes on a grid: all modalities but the last are free, and they fix the last.

    The last is the sum of the others modulo `levels`, relabelled odd numbers first so that no line runs through the
    modes. Any modalities - 1 of them are independent, and independent draws of all hit a mode once in `levels`.
    """
    relabel = [*range(1, levels, 2), *range(0, levels, 2)]
    free = product(range(levels), repeat=modalities - 1)
    cells = torch.tensor([[*cell, relabel[sum(cell) % levels]] for cell in free])
    return Mixture(grid_levels(levels, std)[cells], std)
