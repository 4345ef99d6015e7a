"""Declare one field of a recipe: its default, its bounds and what it means."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

T = TypeVar("T")
WIDEST = (-(2**63), 2**63 - 1)
"""What tensors and random generators hold: the bounds of a whole number that has none of its own."""


@dataclass(frozen=True)
class Bounds:
    """What a value must satisfy beyond its type; `doc` is what the reference says of it."""

    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] = ()
    by_modality: bool = False
    folder: bool = False
    doc: str = ""


def option(
    default: T,
    doc: str = "",
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[T] = (),
    by_modality: bool = False,
) -> T:
    """Declare a dataclass field; the bounds hold for every element of a tuple or mapping.

    `by_modality` says that the keys of a mapping, or the elements of a tuple, are names of modalities.
    """
    metadata = {"bounds": Bounds(minimum, maximum, tuple(choices), by_modality, doc=doc)}
    if isinstance(default, dict):
        return cast(T, field(default_factory=default.copy, metadata=metadata))
    return field(default=default, metadata=metadata)
