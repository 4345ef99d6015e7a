"""Any torch Dataset of tuples as a data set to train on."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.errors import DataError, UsageError

EVERY = 10
"""Of data without held-out items of its own, every tenth is held out."""
TEXTS = ("caption", "label")


@dataclass(frozen=True)
class TupleData:
    """A torch Dataset with a length, as a `SplitDataset`.

    An item is a mapping from modality to media (*media_shape), float in [-1, 1] for audio, video and images. It may
    have texts too: `caption` for all modalities, `caption_MODALITY` for one, and `label`, the name of its class.
    """

    items: Any
    numbers: Sequence[int]
    heldout: "TupleData | None" = None
    report: Sequence[str] = ()
    _names: dict[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def length(self) -> int | None:
        """Return how many items there are."""
        return len(self.numbers)

    @property
    def fingerprint(self) -> str:
        """Return a hash of all items, each read once, or the `fingerprint` of the data set itself where it has one."""
        if "" not in self._names:
            own = getattr(self.items, "fingerprint", None)
            self._names[""] = f"{own}:{_digest(map(str, self.numbers))}" if own else _digest(self._contents())
        return self._names[""]

    def split(self, part: str) -> "TupleData":
        """Return the `train` or `heldout` items; raise DataError where there are none."""
        chosen = self if self.heldout is None or part == "train" else self.heldout
        if (part == "heldout" and self.heldout is None) or not chosen.numbers:
            raise DataError(f"data: no {part} items")
        return TupleData(chosen.items, chosen.numbers)

    def media(self, indices: Sequence[int], modalities: Sequence[str]) -> Mapping[str, Tensor]:
        """Return the media (B, ...) of some items; raise KeyError for a modality that they lack."""
        rows = [self._item(index) for index in indices]
        return {m: torch.stack([torch.as_tensor(row[m]).float() for row in rows]) for m in modalities}

    def captions(self, indices: Sequence[int], modalities: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Return the texts of some items by modality, empty where there is none."""
        rows = [self._item(index) for index in indices]
        return {m: [str(row.get(f"caption_{m}", row.get("caption", ""))) for row in rows] for m in modalities}

    def labels(self, indices: Sequence[int]) -> Sequence[str]:
        """Return the classes of some items, empty where there is none."""
        return [str(self._item(index).get("label", "")) for index in indices]

    def _item(self, index: int) -> Mapping[str, Any]:
        item = self.items[self.numbers[index]]
        if not isinstance(item, Mapping):
            raise DataError(f"data: item {self.numbers[index]} is a {type(item).__name__}, not a mapping by modality")
        return item

    def _contents(self) -> Any:
        for index in range(len(self.numbers)):
            for name, value in sorted(self._item(index).items()):
                yield name
                yield value if isinstance(value, str) else torch.as_tensor(value).contiguous().cpu().numpy().tobytes()


def as_data(items: Any, heldout: Any = None) -> TupleData:
    """Return a torch Dataset as data to train on; raise UsageError where it has no length.

    Without `heldout`, every tenth item is held out where there are at least ten.
    """
    for one in (items, heldout):
        if one is not None and not (hasattr(one, "__len__") and hasattr(one, "__getitem__")):
            raise UsageError(f"data: a {type(one).__name__} has no length and no items by number")
    numbers = range(len(items))
    if heldout is not None:
        return TupleData(items, numbers, TupleData(heldout, range(len(heldout))))
    apart = [n for n in numbers if n % EVERY == EVERY - 1]
    kept = [n for n in numbers if n % EVERY != EVERY - 1]
    return TupleData(items, kept, TupleData(items, apart) if apart else None)


def _digest(parts: Any) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update((part.encode() if isinstance(part, str) else part) + b"\0")
    return whole.hexdigest()[:16]
