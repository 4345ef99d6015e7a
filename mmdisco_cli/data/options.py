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

    path: str | None = option(None, "folder of video files, or of one folder each for train and test", path=True)


@dataclass(frozen=True)
class GaussiansOptions:
    """Scalars on a grid, the last fixed by the others: `levels` ** (`modalities` - 1) Gaussian modes."""

    modalities: int = option(2, "scalars, called x, y, z", minimum=2, maximum=3)
    levels: int = option(4, "values that each of them takes", minimum=2)
    spread: float = option(0.15, "standard deviation of a mode; that of a modality is 1", minimum=1e-3, maximum=1)
    seed: int = option(0, "which infinite sequence of points", minimum=0)
