"""What an extractor is: what it wants of a clip, and a function from that to feature vectors and scores.

`mmdisco eval --extractor NAME` reads the clips, feeds each to `embed` as its `wants` says, and compares the vectors of
all clips with those of real ones: by a kernel distance under the name `Feature.kernel`, and by a Frechet distance under
`Feature.frechet`; the mean of each `Score` is reported beside them. For pitch, say:

    def embed(audio: Tensor) -> dict[str, Tensor]:  # (S,), at the rate that Audio names
        return {"pitch": torch.tensor([[octave_of(audio)]])}  # one vector of one dimension, (1, 1)

    def build(options: ExtractorOptions) -> Extractor:
        return Extractor("pitch-1", Audio(16000), embed, (Feature("pitch", kernel="kd_pitch", frechet="fd_pitch"),))

What stands in `about` of a feature or score is kept beside each of its figures. Of its keys "extractor", "preset" and
"weights" are shown with them, and `--compare` refuses runs in which they differ; for a file of weights the value of the
last is what `mmdisco_cli.extractors.weights.identify(path)` returns, its name and hash.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from mmdisco_cli.extractors.options import ExtractorOptions
from mmdisco_cli.measures.distances import Feature

__all__ = [
    "Audio",
    "AudioVideo",
    "BuildExtractor",
    "Extractor",
    "ExtractorOptions",
    "Feature",
    "Frame",
    "Frames",
    "Score",
]

Frame = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Frames:
    """Frames at `fps` (None: every one of the file), at most `most` from the first on, and at least `least`.

    `each` maps an upright frame (H, W, 3), uint8 BGR, to the tensor that the network takes, such as (3, 224, 224).
    `moments` maps the length of the clip in seconds to the times, in seconds from its start, whose frames are taken in
    place of those at `fps`.
    """

    each: Callable[[Frame], Tensor]
    fps: Fraction | None = None
    most: int | None = None
    least: int = 1
    moments: Callable[[float], Sequence[float]] | None = None


@dataclass(frozen=True)
class Audio:
    """All audio in mono at `rate` (Hz), at least `least` seconds; `left` takes the left channel instead of the mean."""

    rate: int
    least: float = 0.0
    left: bool = False


@dataclass(frozen=True)
class AudioVideo:
    """Frames and audio of the part of a clip that has both."""

    frames: Frames
    audio: Audio


@dataclass(frozen=True)
class Score:
    """A number of each clip whose mean is reported, with what goes into the protocol about it."""

    key: str
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Extractor:
    """One network with one way to feed it.

    `embed` maps one clip's frames (T, ...) or audio (S,), or both, to vectors (K, D) by the key of each of `features`
    and numbers (K,) by the key of each of `scores`; K may differ by clip, D may not. `name` distinguishes its results
    from those of other weights and presets: they are cached under it, so change it when they change. `about` goes
    into the protocol.
    """

    name: str
    wants: Frames | Audio | AudioVideo
    embed: Callable[..., Mapping[str, Tensor]]
    features: Sequence[Feature] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    scores: Sequence[Score] = ()


class BuildExtractor(Protocol):
    """What the factory of an `ExtractorSpec` returns."""

    def __call__(self, options: ExtractorOptions, /) -> Extractor:
        """Return the network with its weights, on the CPU, without anything of it being fetched.

        Raises:
            UsageError: a preset is unknown, or a package is missing; the message is the command that installs it.
            DataError: the weights cannot be read, or are another network's.
        """
