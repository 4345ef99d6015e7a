"""What a recipe may say of the built-in base models; torch-free, since listing plugins reads it."""

from dataclasses import dataclass

from mmdisco_cli.schema import option


@dataclass(frozen=True)
class TokenOptions:
    """Size and origin of the built-in trainable denoiser."""

    width: int = option(192, "channels of every layer", minimum=1)
    depth: int = option(6, "number of blocks", minimum=1)
    heads: int = option(4, "attention heads", minimum=1)
    schedule: str = option("cosine", "noise schedule", choices=("cosine", "flow", "vp-linear", "vp-cosine"))
    prediction: str = option("v", "native output", choices=("epsilon", "sample", "v", "flow"))
    weights: str | None = option(None, "path or packaged name of the trained weights")


@dataclass(frozen=True)
class GaussianMixtureOptions:
    """The exact denoiser of a mixture's marginal; its modes come from the `gaussians` data."""

    schedule: str = option("cosine", "noise schedule", choices=("cosine", "flow", "vp-linear", "vp-cosine"))
    prediction: str = option("epsilon", "native output", choices=("epsilon", "sample", "v", "flow"))
