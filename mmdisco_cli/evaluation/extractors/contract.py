"""What an extractor is: what it wants of a clip, and a function from that to feature vectors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mmdisco_cli.evaluation.distances import Feature

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Pictures:
    """Pictures at `fps` (None: every one of the file), at most `most` from the first on, and at least `least`.

    `each` turns an upright picture (H, W, 3), blue first, into what is kept of it, such as (3, 224, 224).
    """

    each: Callable[[Picture], Tensor]
    fps: Fraction | None = None
    most: int | None = None
    least: int = 1


@dataclass(frozen=True)
class Sound:
    """All sound in mono at `rate`, at least `least` seconds."""

    rate: int
    least: float = 0.0


@dataclass(frozen=True)
class Extractor:
    """One network with one way to feed it.

    `embed` maps one clip's pictures (T, ...) or sound (S,) to vectors (K, D) by the key of each of `features`; `name`
    tells its results from those of other weights and presets, and `about` goes into the protocol.
    """

    name: str
    wants: Pictures | Sound
    embed: Callable[[Tensor], Mapping[str, Tensor]]
    features: Sequence[Feature]
    about: Mapping[str, Any] = field(default_factory=dict)
