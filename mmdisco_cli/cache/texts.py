"""Encoded texts on disk: the condition of each, alone, as the base models gave it."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from mmdisco_cli.cache.mapped import MappedTensor, Mappings, Shard
from mmdisco_cli.diffusion.backbone import Condition, Payload

EncodeText = Callable[[str], Mapping[str, Mapping[str, Condition]]]
"""The conditions of one text, a batch of one, by a model's label and modality."""
_POSITIVE, _POOLED = "positive", "pooled"


def without_negative(condition: Condition) -> Condition:
    """Return a condition as training sees it, which is without CFG."""
    return Condition(condition.positive, pooled=condition.pooled)


def encoded(texts: Sequence[str], encode: EncodeText) -> dict[str, Tensor]:
    """Return the tensors of a shard: LABEL/MODALITY/WHAT stacked (N, ...), or where their shapes differ one a text."""
    slots: dict[str, list[Tensor]] = {}
    for text in texts:
        for label, conditions in encode(text).items():
            for m, condition in conditions.items():
                for name, value in _tensors(condition):
                    slots.setdefault(f"{label}/{m}/{name}", []).append(value.detach().cpu())
    stacked: dict[str, Tensor] = {}
    for slot, values in slots.items():
        if len({value.shape for value in values}) == 1:
            stacked[slot] = torch.cat(values)
        else:
            stacked |= {f"{slot}#{number}": value for number, value in enumerate(values)}
    return stacked


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
            for name, place in shard.tensors.items():
                shapes.setdefault(name, set()).add(place.shape[1:])
        return all(len(found) == 1 for found in shapes.values()) and not any("#" in name for name in shapes)

    def of(self, label: str, text: str) -> dict[str, Condition]:
        """Return one model's conditions of a text of these, a batch of one, by modality."""
        number, row = self._places[text]
        parts: dict[str, dict[str, Tensor]] = {}
        for name in self._shards[number].tensors:
            slot, _, own = name.partition("#")
            whose, m, what = _named(slot)
            if whose == label and (not own or int(own) == row):
                parts.setdefault(m, {})[what] = self._read(number, name, 0 if own else row)
        return {m: _condition(found) for m, found in parts.items()}

    def _read(self, number: int, name: str, row: int) -> Tensor:
        tensor = MappedTensor([self._shards[number]], name, self._mappings)
        return tensor[torch.tensor([row])].to(self._device)


def _named(slot: str) -> tuple[str, str, str]:
    label, m, what = slot.split("/", 2)
    return label, m, what


def _condition(parts: Mapping[str, Tensor]) -> Condition:
    keys = {name.partition("/")[2]: value for name, value in parts.items() if name.startswith(f"{_POSITIVE}/")}
    positive: Payload = keys or parts.get(_POSITIVE)
    return Condition(positive, pooled=parts.get(_POOLED))
