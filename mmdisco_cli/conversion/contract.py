"""What a converter returns: the networks that a checkpoint may hold, each with the tensors that it must have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]
SHOWN = 3
"""Misfits that a message names."""


@dataclass(frozen=True)
class Candidate:
    """A network that a checkpoint may hold: what messages call it, and the shapes of all its tensors by name.

    `about` is what the converted file will say of itself, as JSON can hold it: its `kind` ("backbone" or
    "discriminator"), what building it takes, its licence; a backbone's `architecture` is the converter's name. `note`
    is said where no format was given, such as that the file's name decided between two of one architecture.
    """

    title: str
    shapes: Shapes
    about: Mapping[str, Any]
    note: str = ""

    def misfits(self, found: Shapes) -> list[str]:
        """Return in clauses every tensor that is missing, surplus or of another shape."""
        wrong = [f"missing {name}" for name in self.shapes if name not in found]
        wrong += [f"surplus {name}" for name in found if name not in self.shapes]
        both = (name for name in self.shapes if name in found)
        return wrong + [
            f"{name} is {tuple(found[name])}, not {self.shapes[name]}"
            for name in both
            if tuple(found[name]) != self.shapes[name]
        ]


class BuildConverter(Protocol):
    """What the factory of a `ConverterSpec` returns."""

    def __call__(self, format: str, shapes: Shapes, file: str, /) -> Sequence[Candidate]:  # noqa: A002 - as the option
        """Return the networks of the entry `format` that tensors of these names and shapes may be; none where unlike.

        Of several, and of those of other converters, the one with the fewest misfits is taken. `file` is the name of
        the checkpoint, or the format that was given instead, for kinds whose tensors are alike. Shapes come from a
        file that may be damaged: an exception loses only this converter's say.
        """


def describe_misfits(misfits: Sequence[str]) -> str:
    """Return the first few misfits, and how many more there are."""
    more = len(misfits) - SHOWN
    return "; ".join(misfits[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
