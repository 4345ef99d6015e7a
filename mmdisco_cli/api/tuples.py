"""Any torch Dataset of tuples as a data set to train on."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.assembly.trial import RANGED, far_outside
from mmdisco_cli.data.contract import as_float
from mmdisco_cli.errors import DataError, UsageError

EVERY = 10
"""Of data without held-out items of its own, every tenth is held out."""
TEXTS = ("caption", "label")


@dataclass(frozen=True)
class TupleData:
    """A torch Dataset with a length, as a `SplitDataset`.

    An item is a mapping from modality to media (*media_shape), for audio, video and images float in [-1, 1], or
    integers as `data.contract.Compact` has them: uint8 from 0 to 255, int16. It may have texts too: `caption` for all
    modalities, `caption_MODALITY` for one, and `label`, the name of its class. `ranged` are modalities of those kinds,
    `shapes` those of the first item's media, which all others must have.
    """

    items: Any
    numbers: Sequence[int]
    heldout: "TupleData | None" = None
    report: Sequence[str] = ()
    ranged: Collection[str] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
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
        return TupleData(chosen.items, chosen.numbers, ranged=self.ranged, shapes=self.shapes)

    def of_kinds(self, kinds: Mapping[str, str]) -> "TupleData":
        """Return the same for modalities of these kinds, and read the first item of each part.

        Raises:
            KeyError, DataError: as for `media`.
        """
        chosen = replace(self, ranged=[m for m, kind in kinds.items() if kind in RANGED])
        if chosen.numbers:
            first = chosen.media([0], tuple(kinds))
            chosen = replace(chosen, shapes={m: tuple(x.shape[1:]) for m, x in first.items()})
        if self.heldout is not None and self.heldout.numbers:
            chosen.split("heldout").media([0], tuple(kinds))
        return chosen

    def media(self, indices: Sequence[int], modalities: Sequence[str]) -> Mapping[str, Tensor]:
        """Return the media (B, ...) of some items.

        Raises:
            KeyError: of a modality that the first item lacks.
            DataError: an item is none, or its media are no tensor, not finite, of another range or shape.
        """
        rows = [(index, self._item(index)) for index in indices]
        return {m: torch.stack([self._tensor(index, m, row) for index, row in rows]) for m in modalities}

    def captions(self, indices: Sequence[int], modalities: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Return the texts of some items by modality, empty where there is none."""
        rows = [self._item(index) for index in indices]
        return {m: [_text(row.get(f"caption_{m}", row.get("caption"))) for row in rows] for m in modalities}

    def labels(self, indices: Sequence[int]) -> Sequence[str]:
        """Return the classes of some items, empty where there is none."""
        return [_text(self._item(index).get("label")) for index in indices]

    def _item(self, index: int) -> Mapping[str, Any]:
        item = self.items[self.numbers[index]]
        if not isinstance(item, Mapping):
            raise DataError(f"data: item {self.numbers[index]} is a {type(item).__name__}, not a mapping by modality")
        return item

    def _tensor(self, index: int, modality: str, row: Mapping[str, Any]) -> Tensor:
        if modality not in row and modality not in self._item(0):
            raise KeyError(modality)
        self._expect(modality in row, index, f"has no {modality}, only {', '.join(map(str, row))}")
        media = as_tensor(row[modality])
        if media is None:
            raise self._wrong(index, f"{modality} is a {type(row[modality]).__name__}, which is no tensor")
        shape, ranged = tuple(media.shape), modality in self.ranged
        wanted = self.shapes.get(modality, shape)
        self._expect(shape == wanted, index, f"{modality} is {shape}, not {wanted}")
        media = (as_float(media) if ranged else media).float()
        self._expect(bool(media.isfinite().all()), index, f"{modality} is not finite")
        most = far_outside(media, ranged)
        self._expect(not most, index, f"{modality} reaches {most:g}, but media of its kind are in [-1, 1]")
        return media

    def _expect(self, holds: bool, index: int, otherwise: str) -> None:
        if not holds:
            raise self._wrong(index, otherwise)

    def _wrong(self, index: int, what: str) -> DataError:
        return DataError(f"data: item {self.numbers[index]}: {what}")

    def _contents(self) -> Any:
        for index in range(len(self.numbers)):
            for name, value in sorted(self._item(index).items(), key=lambda entry: str(entry[0])):
                found = None if isinstance(value, str) else as_tensor(value)
                yield str(name)
                # What is neither text nor numbers, as a path, trains nothing and is not a part of the content.
                yield value if isinstance(value, str) else b"" if found is None else _bytes(found)


def as_data(items: Any, heldout: Any = None) -> TupleData:
    """Return a torch Dataset as data to train on; raise UsageError where it has no length.

    Without `heldout`, every tenth item is held out where there are at least ten.
    """
    for one in (items, heldout):
        numbered = hasattr(one, "__len__") and hasattr(one, "__getitem__")
        if one is not None and (not numbered or isinstance(one, Mapping | str)):
            raise UsageError(f"data: a {type(one).__name__} has no length and no items by number")
    numbers = range(len(items))
    if heldout is not None:
        return TupleData(items, numbers, TupleData(heldout, range(len(heldout))))
    apart = [n for n in numbers if n % EVERY == EVERY - 1]
    kept = [n for n in numbers if n % EVERY != EVERY - 1]
    return TupleData(items, kept, TupleData(items, apart) if apart else None)


def as_tensor(value: Any) -> Tensor | None:
    """Return numbers as a tensor, None of anything else."""
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        return None


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().cpu().numpy().tobytes()


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _digest(parts: Any) -> str:
    whole = hashlib.sha256()
    for part in parts:
        whole.update((part.encode() if isinstance(part, str) else part) + b"\0")
    return whole.hexdigest()[:16]
