"""What a recipe may say of the gaussians data and its backbone; torch-free, since listing plugins reads it."""

from dataclasses import dataclass

from mmdisco_cli.schema import option


@dataclass(frozen=True)
class GaussiansOptions:
    """Scalars on a grid, the last fixed by the others: `levels` ** (`modalities` - 1) Gaussian modes."""

    modalities: int = option(2, "scalars, called x, y, z", minimum=2, maximum=3)
    levels: int = option(4, "values that each of them takes", minimum=2)
    spread: float = option(0.15, "standard deviation of a mode; that of a modality is 1", minimum=1e-3, maximum=1)
    seed: int = option(0, "which infinite sequence of points", minimum=0)


@dataclass(frozen=True)
class GaussianMixtureOptions:
    """The exact denoiser of one modality of the `gaussians` data; give it the `levels` and `spread` of the data."""

    levels: int = option(4, "values on the grid", minimum=2)
    spread: float = option(0.15, "standard deviation around each", minimum=1e-3, maximum=1)
    schedule: str = option("cosine", "noise schedule", choices=("cosine", "flow", "vp-linear", "vp-cosine"))
    prediction: str = option("epsilon", "native output", choices=("epsilon", "sample", "v", "flow"))
