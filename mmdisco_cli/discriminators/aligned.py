"""A classifier: a logit pooled over time from time-aligned features of all modalities together."""

from collections.abc import Mapping

from torch import Tensor, nn

from mmdisco_cli.discriminators.options import AlignedOptions
from mmdisco_cli.discriminators.trunk import AlignedTrunk


class Aligned(nn.Module):
    """A logit (B,) from latents (B, *shape), one a modality, already divided by sqrt(alpha^2 + sigma^2)."""

    def __init__(
        self, options: AlignedOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]
    ) -> None:
        super().__init__()
        self.trunk = AlignedTrunk(shapes, pooled, options.width, options.depth, options.heads, options.steps)
        # Non-linear before the mean over time: a step that does not fit must not be averaged away.
        self.head = nn.Sequential(nn.Linear(options.width, options.width), nn.SiLU(), nn.Linear(options.width, 1))

    def forward(
        self, x: Mapping[str, Tensor], log_snr: Mapping[str, Tensor], pooled: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Return the logit (B,)."""
        features, _ = self.trunk(x, log_snr, pooled)
        logit: Tensor = self.head(features).mean(1)[:, 0].float()
        return logit


def build(options: AlignedOptions, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]) -> Aligned:
    """Build the discriminator of a recipe."""
    return Aligned(options, shapes, pooled)
