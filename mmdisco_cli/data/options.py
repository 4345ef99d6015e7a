"""What a recipe may say of the built-in data sets; torch-free, since listing plugins reads it."""

from dataclasses import dataclass

from mmdisco_cli.schema import option


@dataclass(frozen=True)
class BounceOptions:
    """Objects that move under simple physics, with every impact heard."""

    objects: int = option(2, "moving objects in a clip", minimum=1)
    misalignment: float = option(0.0, "fraction of pairs deliberately wrong", minimum=0, maximum=1)
    seed: int = option(0, "which infinite sequence of clips", minimum=0)


@dataclass(frozen=True)
class ClipsOptions:
    """A folder of anyone's video files."""

    path: str | None = option(None, "folder of .mp4 files, or of one folder each for train and test")


@dataclass(frozen=True)
class GaussiansOptions:
    """A mixture of Gaussians over scalar modalities."""

    modes: int = option(4, "components of the mixture", minimum=1)
    spread: float = option(0.15, "standard deviation of every mode", minimum=1e-6)
    seed: int = option(0, "seed of the draws", minimum=0)
