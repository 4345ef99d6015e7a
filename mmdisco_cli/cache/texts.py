"""Encoded texts on disk: the condition of each, alone, as the base models gave it."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mmdisco_cli.cache.mapped import Mappings, Place, Shard, read_rows
from mmdisco_cli.cache.packed import Packed, packed, parts_of, unpacked
from mmdisco_cli.diffusion.backbone import Condition, Payload

EncodeText = Callable[[str], Mapping[str, Mapping[str, Condition]]]
"""The conditions of one text, a batch of one, by a model's label and modality."""
_POSITIVE, _POOLED = "positive", "pooled"


def without_negative(condition: Condition) -> Condition:
    """Return a condition as training sees it, which is without CFG."""
    return Condition(condition.positive, pooled=condition.pooled)


def encoded(texts: Sequence[str], encode: EncodeText) -> dict[str, Tensor]:
    """Return the tensors of a shard: LABEL/MODALITY/WHAT stacked (N, ...), or where their shapes differ one a text.

    Sequences of one shape are packed where zeros pad them.
    """
    slots: dict[str, list[Tensor]] = {}
    for text in texts:
        for label, conditions in encode(text).items():
            for m, condition in conditions.items():
                for name, value in _tensors(condition):
                    slots.setdefault(f"{label}/{m}/{name}", []).append(value.detach().cpu())
    stacked: dict[str, Tensor] = {}
    for slot, values in slots.items():
        if len({value.shape for value in values}) == 1:
            stacked |= _together(slot, torch.cat(values))
        else:
            stacked |= {f"{slot}#{number}": value for number, value in enumerate(values)}
    return stacked


def _together(slot: str, values: Tensor) -> dict[str, Tensor]:
    found = packed(values)
    return {slot: values} if found is None else dict(zip(parts_of(slot), found, strict=True))


def _tensors(condition: Condition) -> list[tuple[str, Tensor]]:
    positive = condition.positive
    parts = (
        [(f"{_POSITIVE}/{key}", value) for key, value in positive.items()]
        if isinstance(positive, Mapping)
        else [(_POSITIVE, positive)]
        if positive is not None
        else []
    )
    return parts + ([(_POOLED, condition.pooled)] if condition.pooled is not None else [])


class EncodedTexts:
    """The texts of a cache and their conditions, read when they are needed."""

    def __init__(self, shards: Sequence[tuple[Sequence[str], Shard]], device: torch.device) -> None:
        self._shards = [shard for _, shard in shards]
        self._places = {text: (k, i) for k, (texts, _) in enumerate(shards) for i, text in enumerate(texts)}
        self._mappings, self._device = Mappings(), device

    def __contains__(self, text: str) -> bool:
        return text in self._places

    @property
    def even(self) -> bool:
        """Return whether all conditions have one shape: only a model knows how it pads others."""
        shapes: dict[str, set[tuple[int, ...]]] = {}
        for shard in self._shards:
            for slot in _slots(shard):
                shapes.setdefault(slot.partition("#")[0], set()).add(_shape(shard.tensors, slot))
        return all(len(found) == 1 for found in shapes.values())

    def of(self, label: str, text: str) -> dict[str, Condition]:
        """Return one model's conditions of a text of these, a batch of one, by modality."""
        number, row = self._places[text]
        parts: dict[str, dict[str, Tensor]] = {}
        for name in _slots(self._shards[number]):
            slot, _, own = name.partition("#")
            whose, m, what = _named(slot)
            if whose == label and (not own or int(own) == row):
                parts.setdefault(m, {})[what] = self._read(number, name, 0 if own else row).to(self._device)
        return {m: _condition(found) for m, found in parts.items()}

    def _read(self, number: int, slot: str, row: int) -> Tensor:
        if slot in self._shards[number].tensors:
            return self._rows(number, slot, row)
        rows, kept, first = parts_of(slot)
        places = self._rows(number, kept, row)[0]
        own = self._rows(number, rows, int(self._rows(number, first, row)), int(places.sum()))
        return unpacked(own, places)

    def _rows(self, number: int, name: str, first: int, count: int = 1) -> Tensor:
        return read_rows(self._shards[number], name, self._mappings, first, count)


def _slots(shard: Shard) -> list[str]:
    """Return what a shard holds, what is packed by the name of the whole."""
    return list(dict.fromkeys(_whole(name) for name in shard.tensors))


def _whole(name: str) -> str:
    slot, _, part = name.partition("#")
    return slot if part in Packed._fields else name


def _shape(tensors: Mapping[str, Place], slot: str) -> tuple[int, ...]:
    """Return the shape of one text's, without batch."""
    if slot in tensors:
        return tensors[slot].shape[1:]
    rows, kept, _ = parts_of(slot)
    return (*tensors[kept].shape[1:], *tensors[rows].shape[1:])


def _named(slot: str) -> tuple[str, str, str]:
    label, m, what = slot.split("/", 2)
    return label, m, what


def _condition(parts: Mapping[str, Tensor]) -> Condition:
    keys = {name.partition("/")[2]: value for name, value in parts.items() if name.startswith(f"{_POSITIVE}/")}
    positive: Payload = keys or parts.get(_POSITIVE)
    return Condition(positive, pooled=parts.get(_POOLED))
