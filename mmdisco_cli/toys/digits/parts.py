"""Which real recordings and images belong to which part: nothing is in two of them.

Recordings go by their own index, as the Free Spoken Digit Dataset splits them (0 to 4 are its official test part),
images by their position in their file. The judges of the protocol `digits` learn from a part that no
generator ever meets.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

Places = Mapping[str, Mapping[int, Sequence[int]]]
"""Where the items of each part and digit lie."""
PARTS = ("train", "heldout", "judges")
HELDOUT_BELOW, JUDGES_BELOW = 10, 20
"""Indices of recordings: from 0 held out, from 10 for the judges, from 20 to train on."""


def part_of_recording(index: int) -> str:
    """Return the part of a recording by its index among those of one speaker and digit."""
    return "heldout" if index < HELDOUT_BELOW else "judges" if index < JUDGES_BELOW else "train"


def part_of_image(position: int) -> str:
    """Return the part of an image by its position in its file: of each ten one is held out and three for judges."""
    last = position % 10
    return "heldout" if last == 0 else "judges" if last <= 3 else "train"


def places_of(items: Iterable[tuple[str, int]]) -> Places:
    """Return the places of items, each of a part and a digit, by both."""
    found: dict[str, dict[int, list[int]]] = {part: defaultdict(list) for part in PARTS}
    for place, (part, digit) in enumerate(items):
        found[part][digit].append(place)
    return found
