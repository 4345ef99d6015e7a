"""The control: a logit f(x) + g(y), as three of the paper's four released discriminators (no cross-attention).

Its gradient for one modality does not depend on the other, so it can change each marginal but align nothing.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mmdisco_cli.discriminators.options import AdditiveOptions
from mmdisco_cli.discriminators.trunk import AlignedTrunk


class Additive(nn.Module):
    """A logit (B,): the sum of one term for each modality, pooled over time."""

    def __init__(
        self, options: AdditiveOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]
    ) -> None:
        super().__init__()
        o = options
        self.trunks = nn.ModuleDict(
            {
                m: AlignedTrunk({m: s}, {m: pooled.get(m, 0)}, o.width, o.depth, o.heads, o.steps)
                for m, s in shapes.items()
            }
        )
        self.heads = nn.ModuleDict({m: nn.Linear(o.width, 1) for m in shapes})

    def forward(
        self, x: Mapping[str, Tensor], log_snr: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return the logit (B,)."""
        terms = []
        for m, state in x.items():
            features, _ = self.trunks[m]({m: state}, log_snr, pooled)
            terms.append(self.heads[m](features.mean(1))[:, 0].float())
        return torch.stack(terms).sum(0)


def build(options: AdditiveOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]) -> Additive:
    """Build the discriminator of a recipe."""
    return Additive(options, shapes, pooled)
