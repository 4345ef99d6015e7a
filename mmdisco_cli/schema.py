"""Declare the fields of a recipe: default, bounds and meaning."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

T = TypeVar("T")
WIDEST = (-(2**63), 2**63 - 1)
"""Default bounds of integers: those of 64 bits, as tensors and random generators have them."""


class KeyProblem(ValueError):  # noqa: N818 - the reader of recipes adds the file and line
    """Raised by the `__post_init__` of options where the value of one `key`, dotted, contradicts others."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


def at_home(path: str) -> str:
    """Return a path with a leading ~ or ~USER replaced by that home, as a shell would; others as they are."""
    return os.path.expanduser(path)  # noqa: PTH111 - pathlib's raises for unknown users


@dataclass(frozen=True)
class Bounds:
    """Limits of a value besides its type; `doc` is its text in the reference, `path` says that ~ is the home directory.

    `identity` says whether it belongs to what names a training: always; "used", only where it is not the default, as
    for a key that came later; or "never", where it changes no result or what it changes is named otherwise.
    `formerly` is the key's name in older versions, for the message about recipes that still use it.
    """

    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] = ()
    by_modality: bool = False
    folder: bool = False
    path: bool = False
    doc: str = ""
    identity: str = "always"
    formerly: str = ""


def option(
    default: T,
    doc: str = "",
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: Sequence[T] = (),
    by_modality: bool = False,
    path: bool = False,
    identity: str = "always",
    formerly: str = "",
) -> T:
    """Declare a dataclass field; the bounds hold for every element of a tuple or mapping.

    `by_modality` says that the keys of a mapping, or the elements of a tuple, are names of modalities; `path` that
    text names a file or folder, in which a leading ~ is the user's home; `identity` and `formerly` are explained in
    `Bounds`.
    """
    allowed = (minimum, maximum, tuple(choices))
    metadata = {"bounds": Bounds(*allowed, by_modality, path=path, doc=doc, identity=identity, formerly=formerly)}
    if isinstance(default, dict):
        return cast(T, field(default_factory=default.copy, metadata=metadata))
    return field(default=default, metadata=metadata)
