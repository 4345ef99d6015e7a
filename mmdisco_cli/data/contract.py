"""The contract between the core and a source of clips: one item a modality and index, and what may be said of it.

Media are float32 in [-1, 1], audio (B, channels, samples) and video (B, 3, T, H, W); modalities without a layout, such
as vectors, are of any range. The same index always gives the same clip, alone or beside others, in any process.

Media have the shapes that a recipe's models plan for the `Request`; where they have others, training says so before it
begins. What is not wanted need not be read: with audio of 16 kHz,

    clips = build(options, Request(seconds=2.0, fps=10.0, height=64, width=64)).split("train")
    clips.media([0, 7], ["audio"])  # {"audio": a tensor (2, 1, 32000)}

Four members are optional: `captions` for texts to condition on, `labels` for classes to evaluate by, `sources` for what
clips are cut from, and `compact` for their media in fewer bytes. They belong to the data set and to its parts, and
speak of the same clips by the same indices as `media`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Request


class Dataset(Protocol):
    """Clips by index, as training reads them."""

    @property
    def length(self) -> int | None:
        """Return how many clips there are, None where they never end."""

    @property
    def fingerprint(self) -> str:
        """Name the exact clips: what was encoded once is kept under it, from one run to the next."""

    def media(self, indices: Sequence[int], modalities: Sequence[str]) -> Mapping[str, Tensor]:
        """Return the media (B, ...) of these clips, by each of these modalities.

        Raises:
            KeyError: of the name of a modality that the clips do not have; leaving it out says the same.
            DataError: a clip cannot be read.
        """


class SplitDataset(Dataset, Protocol):
    """A data set as its factory returns it: clips to train on and, apart from them, clips to measure with."""

    @property
    def report(self) -> Sequence[str]:
        """Return a line for each thing that could not be used, or is odd."""

    def split(self, part: str, /) -> Self:
        """Return the `train` or `heldout` clips, numbered from 0, which have nothing in common.

        Raises:
            DataError: there are too few clips for one of that part.
        """


class BuildDataset(Protocol):
    """What the factory of a `DatasetSpec` returns.

    Where it has parameters of these names, it is given as keywords too: `modalities`, those that are wanted; `kinds`,
    what each of them is; `channels` and `sample_rate`, what the audio model takes; and `progress`, a function to call
    with how many clips are looked through and of how many.
    """

    def __call__(self, options: Any, request: Request, /) -> SplitDataset:
        """Return the clips that a recipe names, of the length and size that it requests.

        Raises:
            KeyError: of the name of a modality that the clips do not have.
            ValueError, UsageError: they cannot be of that length or size.
            DataError: nothing there is usable.
        """


@runtime_checkable
class Captioned(Protocol):
    """The optional member of a data set whose clips have texts."""

    def captions(self, indices: Sequence[int], modalities: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Return, for each of these modalities, one text for each of these clips, empty where there is none.

        Texts of one clip may differ by modality: a video may be described by other words than its audio.
        """


@runtime_checkable
class Labelled(Protocol):
    """The optional member of a data set whose clips belong to classes."""

    def labels(self, indices: Sequence[int]) -> Sequence[str]:
        """Return the name of the class of each of these clips, empty where it has none."""


@runtime_checkable
class Sourced(Protocol):
    """The optional member of a data set of which several clips may be cut from one recording."""

    def sources(self, indices: Sequence[int]) -> Sequence[str]:
        """Return what names the recording of each of these clips; clips of one are never re-paired with one another."""


@runtime_checkable
class Compact(Protocol):
    """The optional member of a data set whose media have 8 or 16 bits: so they pass from process to process."""

    def compact(self, indices: Sequence[int], modalities: Sequence[str]) -> Mapping[str, Tensor]:
        """Return `media` of these clips as integers: uint8 of which 0 is -1 and 255 is 1, or int16 of 32767 x."""


def as_float(media: Tensor) -> Tensor:
    """Return media as float32 in [-1, 1], of the bits that `media` has: compact ones converted, others as they are."""
    if media.dtype not in (torch.uint8, torch.int16):
        return media
    # In place: what a division and a subtraction would return takes longer to find memory for than to fill.
    found = media.float()
    return found.div_(127.5).sub_(1) if media.dtype == torch.uint8 else found.div_(32767)
