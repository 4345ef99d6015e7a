"""A discriminator of modalities of equal length: a small network on all of them at every step, summed over steps."""

import math
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from mmdisco_example import DuetOptions


class Duet(nn.Module):
    """A `mmdisco_cli.diffusion.guidance.Discriminator`: its logit (B,) is that of sound and hand belonging together."""

    def __init__(self, options: DuetOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]) -> None:
        super().__init__()
        self.conditions = [m for m in shapes if pooled.get(m)]
        at_a_step = sum(math.prod(shape) // shape[1] for shape in shapes.values())
        channels = at_a_step + len(shapes) + sum(pooled[m] for m in self.conditions)
        widths = [channels, options.width, options.width]
        layers = [part for a, b in pairwise(widths) for part in (nn.Conv1d(a, b, 1), nn.SiLU())]
        self.network = nn.Sequential(*layers, nn.Conv1d(options.width, 1, 1))

    def forward(
        self, x: Mapping[str, Tensor], log_snr: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return the logit (B,)."""
        states = [state.movedim(2, -1).flatten(1, -2) for state in x.values()]  # (B, all channels and pixels, T)
        whole = [log_snr[m][:, None] / 10 for m in x] + [(pooled or {})[m] for m in self.conditions]
        over_time = [part[:, :, None].expand(-1, -1, states[0].shape[2]) for part in whole]
        logit: Tensor = self.network(torch.cat([*states, *over_time], 1)).sum((1, 2))
        return logit


def build(options: DuetOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]) -> Duet:
    steps = {shape[1:2] for shape in shapes.values()}
    if len(steps) > 1 or () in steps:
        raise ValueError(f"duet compares step by step, which takes latents of one length, not {dict(shapes)}")
    return Duet(options, shapes, pooled)
