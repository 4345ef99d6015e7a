"""The default discriminator: l(x, u) = sum_m <x^m, n_m(x, u)> with n a small joint network.

Its gradient by x is n plus a correction, that is, a denoiser already: what guidance needs and what the denoising loss
(Eq. 5 of MMDisCo, arXiv 2405.17842) trains. A scalar head over pooled features has to learn the same thing through a
classifier's gradient.

With `reads_x0` the joint network looks at the base models' own x_0 beside x, and all it looks at is held constant: the
large models have done the denoising, only what the pair adds is left to learn. The gradient by x is then n alone, so no
second derivative is needed; n is the residual score because Eq. (5) makes it so, while a head that x does not enter
keeps the logit free to be the log ratio of Eq. (4).
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmdisco_cli.blocks import by_row, zero
from mmdisco_cli.discriminators.frames import from_steps, step_width
from mmdisco_cli.discriminators.options import EnergyOptions
from mmdisco_cli.discriminators.trunk import Trunk


class Energy(nn.Module):
    """A logit (B,) from latents (B, *shape), one a modality, already divided by sqrt(alpha^2 + sigma^2)."""

    def __init__(
        self, options: EnergyOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]
    ) -> None:
        super().__init__()
        self.shapes = dict(shapes)
        self.reads_x0 = options.reads_x0
        views = {m: (2 * channels, *rest) for m, (channels, *rest) in shapes.items()} if self.reads_x0 else shapes
        self.trunk = Trunk(views, pooled, options.width, options.depth, options.heads, options.steps)
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
        logit: Tensor = by_row([self.bias], level)[:, 0].float()
        if self.reads_x0:
            logit = logit + self.verdict(features).mean(1)[:, 0].float()
        for m, state in x.items():
            estimate = from_steps(self.heads[m](features), self.shapes[m])
            # Signal over noise, bounded: the gradient's size is that of the residual it has to explain.
            gain = torch.sigmoid(log_snr[m] + math.log(2)).view(-1, *[1] * (state.ndim - 1))
            logit = logit + (state * gain * estimate).flatten(1).float().sum(1)
        return logit


def build(options: EnergyOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]) -> Energy:
    """Build the discriminator of a recipe."""
    return Energy(options, shapes, pooled)
