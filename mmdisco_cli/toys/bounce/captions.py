"""What a caption says of a bounce clip: how many balls there are, and the size and material of each.

The balls of a captioned clip differ in kind, so that audio and video each show how many there are.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from mmdisco_cli.toys.bounce.scene import MATERIALS, RADIUS, Ball

SIZES = ("small", "large")
RADII = ((RADIUS[0], 6.2), (8.1, RADIUS[1]))
"""Radii in pixels of the two sizes; no ball is of a radius in between."""
BETWEEN = (RADIUS[0] * RADIUS[1]) ** 0.5
"""The radius in pixels that parts small from large ones: the middle of all, as the ear has it too."""

_SIZE_WORDS = (("small", "little"), ("large", "big"))
_ADJECTIVES, _NOUNS = ("wooden", "metal", "glass"), ("wood", "metal", "glass")


@dataclass(frozen=True, order=True)
class Kind:
    """A kind of ball: size 0 (small) or 1 (large), and the number of its material."""

    size: int
    material: int

    def __str__(self) -> str:
        """Return it in two words, such as large glass."""
        return f"{SIZES[self.size]} {MATERIALS[self.material]}"


KINDS = tuple(Kind(size, material) for size in range(len(SIZES)) for material in range(len(MATERIALS)))


def kind_of(radius: float, material: int) -> Kind:
    """Return the kind of a ball of this radius in pixels."""
    return Kind(int(radius > BETWEEN), material)


def content(balls: Sequence[Ball]) -> tuple[Kind, ...]:
    """Return all that a caption of these balls says, however it is worded."""
    return tuple(sorted(kind_of(ball.radius, ball.material) for ball in balls))


def label(kinds: Sequence[Kind]) -> str:
    """Return a content as the name of a class."""
    return " + ".join(str(kind) for kind in sorted(kinds))


@dataclass(frozen=True)
class Wording:
    """How balls become a sentence: a beginning by their number, a phrase for each, what joins these, and an end."""

    phrase: str
    joint: str = " and "
    begin: tuple[str, str, str] = ("", "", "")
    end: str = ""

    def write(self, kinds: Sequence[Kind], rng: random.Random) -> str:
        """Return the sentence for balls in this order; of two words for one size `rng` picks."""
        phrases = [self._ball(kind, rng) for kind in kinds]
        return self.begin[len(kinds) - 1] + self.joint.join(phrases) + self.end

    def _ball(self, kind: Kind, rng: random.Random) -> str:
        size = rng.choice(_SIZE_WORDS[kind.size])
        return self.phrase.format(size=size, adjective=_ADJECTIVES[kind.material], noun=_NOUNS[kind.material])


_COUNTED = ("one ball: ", "two balls: ", "three balls: ")
_THERE = ("there is one ball, ", "there are two balls, ", "there are three balls, ")
_BOUNCING = ("a bouncing ball: ", "two bouncing balls: ", "three bouncing balls: ")

WORDINGS = (
    Wording("a {size} {adjective} ball"),
    Wording("a {size} ball of {noun}", " beside ", end=" bouncing"),
    Wording("{size} and made of {noun}", ", another ", ("one ball, ", "one ball ", "one ball ")),
    Wording("one {size} and of {noun}", ", ", _COUNTED),
    Wording("a {size} {adjective} one", " and ", _THERE),
    Wording("a ball made of {noun} that is {size}", " with "),
    Wording("a {adjective} one, {size}", ", then ", _BOUNCING),
    Wording("{size} {adjective} ball", ", "),
    Wording("one ball is {size} and {adjective}", " and "),
    Wording("a {size} one of {noun}", " with ", _BOUNCING, " on the floor"),
)
"""The wordings of clips to train on."""
HELDOUT_WORDINGS = (
    Wording("a {size} ball made of {noun}", " and ", end=" on the floor"),
    Wording("a {size} {adjective} ball", " beside ", _COUNTED),
    Wording("a {adjective} ball that is {size}", " and ", _THERE),
    Wording("a bouncing {size} ball of {noun}", " with "),
)
"""Those of held-out clips: other sentences, of the same words."""


def caption(kinds: Sequence[Kind], rng: random.Random, *, heldout: bool) -> str:
    """Return a sentence that names these kinds, in any order and in a wording of those that the part has."""
    wording = rng.choice(HELDOUT_WORDINGS if heldout else WORDINGS)
    return wording.write(rng.sample(list(kinds), len(kinds)), rng)
