"""The default discriminator: l(x, u) = sum_m <x^m, n_m(x, u)> with n a small joint network.

Its gradient by x is n plus a correction, that is, a denoiser already: what guidance needs and what the denoising loss
(Eq. 5 of MMDisCo, arXiv 2405.17842) trains. A scalar head over pooled features has to learn the same thing through a
classifier's gradient.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmdisco_cli.blocks import zero
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
        self.trunk = Trunk(shapes, pooled, options.width, options.depth, options.heads, options.steps)
        self.heads = nn.ModuleDict(
            {m: nn.Linear(options.width, step_width(shape, self.trunk.steps)) for m, shape in shapes.items()}
        )
        self.bias = nn.Linear(options.width, 1)
        zero(self.heads, self.bias)

    def forward(
        self, x: Mapping[str, Tensor], log_snr: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return the logit (B,)."""
        features, level = self.trunk(x, log_snr, pooled)
        logit: Tensor = self.bias(level)[:, 0].float()
        for m, state in x.items():
            estimate = from_steps(self.heads[m](features), self.shapes[m])
            # Signal over noise, bounded: the gradient's size is that of the residual it has to explain.
            gain = torch.sigmoid(log_snr[m] + math.log(2)).view(-1, *[1] * (state.ndim - 1))
            logit = logit + (state * gain * estimate).flatten(1).float().sum(1)
        return logit


def build(options: EnergyOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]) -> Energy:
    """Build the discriminator of a recipe."""
    return Energy(options, shapes, pooled)
