"""The contract of a kind of modality: what a plugin that adds one by the hook `mmdisco_kinds` writes.

A backbone declares the kind of each of its modalities (`ModalityInfo.kind`). A `KindSpec` names the kind and the suffix
of its files; its factory takes nothing and gives an object with the members of `Kind`. These members are optional:

    misfit(plan)   why media of this plan cannot be of the kind, in a clause, empty where they can; samples that do not
                   fit are written as plain vectors, with a note
    change(path, item)       what `read` changes of a file, in a clause, which a note says
    thumbnail(path, width)   how `mmdisco sample --sheet` draws a file, of which it shows the name otherwise
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

from mmdisco_cli.diffusion.backbone import ModalityPlan

Media = Tensor | str
"""One sample's media without batch, float32 (*media_shape) on the CPU; of the kind text the string that they say."""


@dataclass(frozen=True)
class Item:
    """One modality of one sample: its label in the recipe, its plan, and what stands in its file beside the media.

    `about` are words by name, such as "title" and "seed", for formats that can hold them; `scale` is by how much every
    pixel is repeated, for what has pixels.
    """

    label: str
    plan: ModalityPlan
    about: Mapping[str, str] = field(default_factory=dict)
    scale: int = 1


class Kind(Protocol):
    """How samples of one kind are kept in files and shown on a page."""

    def write(self, path: Path, media: Media, item: Item, /) -> None:
        """Write one sample to a new file, and none beside it; it replaces what is of its name once this returns.

        Raises:
            DataError: it cannot be written.
        """

    def read(self, path: Path, item: Item, /) -> Media:
        """Return the media of a file in the shape of `item.plan`, as `--given` takes them.

        Raises:
            DataError: the file is of no such kind, or too short or too small.
        """

    def card(self, path: Path, source: str, /) -> str:
        """Return the HTML by which a page shows a file, such as an img element.

        `source` is the address of the file, escaped, as its `src` or `href` takes it: relative to the page, or a data:
        address with all of it, for the page loads nothing else then. Whatever comes from the file must be escaped, and
        every element closed; no script in it is run.
        """


class BuildKind(Protocol):
    """What the factory of a `KindSpec` returns."""

    def __call__(self) -> Kind:
        """Return the kind."""


@runtime_checkable
class Choosy(Protocol):
    """Optional member: media of some plans cannot be of the kind."""

    def misfit(self, plan: ModalityPlan, /) -> str:
        """Return why not, in a clause; empty where they can."""


@runtime_checkable
class Adapting(Protocol):
    """Optional member: a file is changed on the way to the shape of a plan."""

    def change(self, path: Path, item: Item, /) -> str:
        """Return what `read` will change of a file, in a clause for people; empty where it changes nothing."""


@runtime_checkable
class Drawing(Protocol):
    """Optional member: a file is drawn on a sheet of samples."""

    def thumbnail(self, path: Path, width: int, /) -> Tensor:
        """Return a drawing of a file, uint8 (3, H, width), as high as it needs.

        Raises:
            DataError: the file cannot be read.
        """
