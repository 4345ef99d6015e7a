"""Conditions of the base models by text, each text encoded once, alone, and kept as long as memory allows."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.cache.texts import EncodedTexts, without_negative
from mmdisco_cli.diffusion.backbone import Base, Condition, Payload, pads_with_zeros

LIMIT = 512 * 2**20
"""Bytes of encoded texts that are kept: 4,096 vectors of 512 take 8 MB, 1,000 T5 sequences of 77 x 2,048 take 630."""


class Conditions:
    """What texts are to the base models of an assembly, without the negative half of CFG.

    Those `encoded` on disk are read from there at each use, others are encoded.
    """

    def __init__(self, assembly: Assembly, encoded: EncodedTexts | None = None, limit: int = LIMIT) -> None:
        self._models, self._encoded, self._limit = assembly.models, encoded, limit
        self._kept: OrderedDict[tuple[str, str], dict[str, Condition]] = OrderedDict()
        self._bytes = 0

    @torch.no_grad()
    def of(self, texts: Mapping[str, Sequence[str]]) -> dict[str, Condition]:
        """Return each modality's condition for texts (B,) by modality; nothing for no texts."""
        found: dict[str, Condition] = {}
        for label, base in self._models.items():
            for m in base.modalities:
                if m in texts and (condition := self._batch(label, base, m, texts[m])) is not None:
                    found[m] = condition
        return found

    def _batch(self, label: str, base: Base, modality: str, texts: Sequence[str]) -> Condition | None:
        rows = {text: self._row(label, base, text).get(modality) for text in dict.fromkeys(texts)}
        parts = [row for text in texts if (row := rows[text]) is not None]
        if len(parts) < len(texts):
            return None
        joined = _joined(parts, pad=pads_with_zeros(base.backbone))
        # Sequences of several lengths: only the model knows how it pads them.
        return joined or without_negative(base.backbone.encode_prompt(list(texts), None, base.plan)[modality])

    def _row(self, label: str, base: Base, text: str) -> dict[str, Condition]:
        """Return the conditions of one text, batch of one, by modality."""
        if self._encoded is not None and text in self._encoded:
            return self._encoded.of(label, text)
        key = (label, text)
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        encoded = base.backbone.encode_prompt([text], None, base.plan)
        row = self._kept[key] = {m: without_negative(condition) for m, condition in encoded.items()}
        self._bytes += _size(row)
        while self._bytes > self._limit and len(self._kept) > 1:
            self._bytes -= _size(self._kept.popitem(last=False)[1])
        return row


def encoded_of(real: object) -> EncodedTexts | None:
    """Return the texts of a source of real tuples that were encoded beforehand, None where there are none."""
    found = getattr(real, "encoded", None)
    return found if isinstance(found, EncodedTexts) else None


def conditioned(bases: Sequence[Base], conditions: Mapping[str, Condition]) -> list[Base]:
    """Return the models with these conditions of their modalities."""
    return [Base(b.backbone, b.plan, {m: conditions[m] for m in b.modalities if m in conditions}) for b in bases]


def _joined(rows: Sequence[Condition], *, pad: bool) -> Condition | None:
    """Return conditions of one sample each as one of a batch; None where their shapes differ and zeros may not pad."""
    try:
        positive = _stacked([row.positive for row in rows], pad)
        return Condition(positive, pooled=_tensor([row.pooled for row in rows], pad=False))
    except _ShapesDifferError:
        return None


class _ShapesDifferError(Exception):
    """Conditions of several lengths."""


def _stacked(payloads: Sequence[Payload], pad: bool) -> Payload:
    first = payloads[0]
    if isinstance(first, Mapping):
        parts = {key: _tensor([p[key] for p in payloads if isinstance(p, Mapping)], pad) for key in first}
        return {key: value for key, value in parts.items() if value is not None}
    return _tensor([p for p in payloads if p is None or isinstance(p, Tensor)], pad)


def _tensor(rows: Sequence[Tensor | None], pad: bool) -> Tensor | None:
    found = [row for row in rows if row is not None]
    if not found:
        return None
    if pad and len({row.shape for row in found}) > 1 and len({row.shape[2:] for row in found}) == 1:
        return pad_sequence([row[0] for row in found], batch_first=True)
    if len({row.shape for row in found}) > 1:
        raise _ShapesDifferError
    return torch.cat(found)


def _size(row: Mapping[str, Condition]) -> int:
    payloads = [p for c in row.values() for p in (c.positive, c.pooled)]
    tensors = [t for p in payloads for t in (p.values() if isinstance(p, Mapping) else [p]) if t is not None]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
