"""Captions of clips, and which clips may be re-paired: only those of one condition, or all where no text is seen.

Elsewhere a classifier of re-paired tuples would learn whether a clip fits its text, not whether its parts fit.
"""

import json
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.data.contract import Captioned, Labelled, Sourced
from mmdisco_cli.run.files import fingerprint


@dataclass(frozen=True)
class Captions:
    """One text for each of N clips by modality, empty where there is none; and their labels, () where unknown.

    `sources` name what each clip is cut from, () where every clip is of its own: clips of one are not re-paired.
    """

    texts: dict[str, tuple[str, ...]]
    labels: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(next(iter(self.texts.values())))

    @property
    def keys(self) -> list[Hashable]:
        """Return what clips must share to be re-paired under their texts: the label, else the texts themselves."""
        same: list[Hashable] = list(zip(*self.texts.values(), strict=True))
        return [label or texts for label, texts in zip(self.labels or [""] * len(self), same, strict=True)]

    @cached_property
    def missing(self) -> Tensor:
        """Return which clips (N,) have no text at all."""
        return torch.tensor([not any(texts) for texts in zip(*self.texts.values(), strict=True)])

    @property
    def fingerprint(self) -> str:
        """Return what changes with any text or label, and their order."""
        return fingerprint(json.dumps({"texts": self.texts, "labels": self.labels}, sort_keys=True, ensure_ascii=False))

    def at(self, clips: Sequence[int]) -> "Captions":
        """Return those of some clips alone."""
        texts = {m: tuple(own[clip] for clip in clips) for m, own in self.texts.items()}
        labels, sources = (tuple(own[clip] for clip in clips) if own else () for own in (self.labels, self.sources))
        return Captions(texts, labels, sources)

    def of(self, rows: Tensor, dropped: Tensor) -> dict[str, list[str]]:
        """Return the texts of the clips `rows` (B,), the empty text of all modalities where `dropped` (B,)."""
        places = list(zip(rows.tolist(), dropped.tolist(), strict=True))
        return {m: ["" if gone else texts[row] for row, gone in places] for m, texts in self.texts.items()}

    def labels_of(self, rows: Tensor) -> list[str]:
        """Return the labels of the clips `rows` (B,)."""
        return [self.labels[row] for row in rows.tolist()] if self.labels else []


def captions_of(dataset: Any, indices: Sequence[int], modalities: Sequence[str]) -> Captions | None:
    """Return the captions and labels of some clips of a data set; None where it has no text for any of them."""
    if not isinstance(dataset, Captioned):
        return None
    found = captions_at(dataset, indices, modalities)
    return found if any(map(any, found.texts.values())) else None


def captions_at(dataset: Captioned, indices: Sequence[int], modalities: Sequence[str]) -> Captions:
    """Return the captions and labels of some clips of a data set that has any, empty ones too."""
    texts = {m: tuple(found) for m, found in dataset.captions(indices, modalities).items()}
    labels = tuple(dataset.labels(indices)) if isinstance(dataset, Labelled) else ()
    return Captions(texts, labels, tuple(dataset.sources(indices)) if isinstance(dataset, Sourced) else ())


class Partners:
    """Other clips for a clip, drawn from all those that share its key and are of another source.

    Without `sources` each clip is of its own. `sizes` (N,) is how many clips a clip could form tuples with, itself
    among them.
    """

    def __init__(self, keys: Sequence[Hashable], sources: Sequence[Hashable] = ()) -> None:
        key, source = _numbered(keys), _numbered(sources or range(len(keys)))
        by_source = source.argsort(stable=True)
        self._order = by_source[key[by_source].argsort(stable=True)]
        place = self._order.argsort()
        within = torch.bincount(key)
        self._start, self._within = (within.cumsum(0) - within)[key], within[key]
        # Clips of one key and one source stand together: the first partner of each comes after the last of them.
        blocks = (key * len(keys) + source)[self._order]
        _, block, length = torch.unique_consecutive(blocks, return_inverse=True, return_counts=True)
        self._last, self._alike = (length.cumsum(0) - 1)[block][place], length[block][place]
        self.sizes = self._within - self._alike + 1

    def draw(self, rows: Tensor, free: Tensor, others: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return `others` different partners (others, B) for each of `rows` (B,), and whether there are any (B,).

        Those of `free` (B,) rows come from all clips. Where a key has too few clips they do too, and none are found.
        """
        count, alike = len(self._order), self._alike[rows]
        found = torch.where(free, count, self._within[rows]) - alike >= others
        anywhere = free | ~found
        start = torch.where(anywhere, 0, self._start[rows])
        size = torch.where(anywhere, count, self._within[rows])
        last = self._last[rows] - start
        return self._order[(last + _steps(size - alike, others, generator)) % size + start], found


def _numbered(names: Sequence[Hashable]) -> Tensor:
    """Return the number (N,) of each name, in the order in which they first appear."""
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(name, len(numbers)) for name in names])


def _steps(most: Tensor, others: int, generator: torch.Generator) -> Tensor:
    """Return different numbers (others, B) from 1 to `most` (B,), as far as there are as many."""
    taken: list[Tensor] = []
    for k in range(others):
        step = (torch.rand(len(most), generator=generator, dtype=torch.float64) * (most - k).clamp_min(1)).long() + 1
        for other in torch.stack(taken).sort(0).values if taken else ():
            step = step + (step >= other)  # the k-th of those that are left
        taken.append(step)
    return torch.stack(taken)
