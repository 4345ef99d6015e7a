"""The default discriminator: l(x, u) = sum_m <x^m, n_m(x, u)> with n a small joint network.

Its gradient by x is n plus a correction, so the network n is itself the residual score: what guidance needs and what
the denoising loss (eq. 5 of MMDisCo, arXiv 2405.17842) trains. A scalar head over pooled features has to learn the same
through the gradient of a classifier.

With `reads_x0` the inputs of n are x and the base models' own x_0, both detached: the base models have done the
denoising, and only the residual due to the pair is left to learn. The gradient by x is then exactly n, so no second
derivative is needed; eq. (5) makes n the residual score, while a further head on detached features leaves the logit
free to be the log ratio of eq. (4).
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmdisco_cli.blocks import map_rows, zero
from mmdisco_cli.discriminators.options import EnergyOptions
from mmdisco_cli.discriminators.time_axis import from_steps, step_width
from mmdisco_cli.discriminators.trunk import AlignedTrunk


class Energy(nn.Module):
    """A logit (B,) from latents (B, *shape), one a modality, already divided by sqrt(alpha^2 + sigma^2)."""

    def __init__(
        self, options: EnergyOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]
    ) -> None:
        super().__init__()
        self.shapes = dict(shapes)
        self.reads_x0 = options.reads_x0
        views = {m: (2 * channels, *rest) for m, (channels, *rest) in shapes.items()} if self.reads_x0 else shapes
        self.trunk = AlignedTrunk(views, pooled, options.width, options.depth, options.heads, options.steps)
        self.heads = nn.ModuleDict(
            {m: nn.Linear(options.width, step_width(shape, self.trunk.steps)) for m, shape in shapes.items()}
        )
        self.bias = nn.Linear(options.width, 1)
        zero(self.heads, self.bias)
        if self.reads_x0:
            width = options.width
            self.verdict = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))
            zero(self.verdict[2])

    def forward(
        self,
        x: Mapping[str, Tensor],
        log_snr: Mapping[str, Tensor],
        pooled: Mapping[str, Tensor] | None = None,
        x0: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the logit (B,)."""
        views = {m: torch.cat([state.detach(), x0[m]], 1) for m, state in x.items()} if x0 else x
        features, level = self.trunk(views, log_snr, pooled)
        logit: Tensor = map_rows([self.bias], level)[:, 0].float()
        if self.reads_x0:
            logit = logit + self.verdict(features).mean(1)[:, 0].float()
        for m, state in x.items():
            estimate = from_steps(self.heads[m](features), self.shapes[m])
            # Signal over noise, bounded: this gives the gradient the magnitude of the residual score.
            gain = torch.sigmoid(log_snr[m] + math.log(2)).view(-1, *[1] * (state.ndim - 1))
            logit = logit + (state * gain * estimate).flatten(1).float().sum(1)
        return logit


def build(options: EnergyOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]) -> Energy:
    """Build the discriminator of a recipe."""
    return Energy(options, shapes, pooled)
