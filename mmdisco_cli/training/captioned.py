"""Tuples of clips that have captions: real ones with their texts, and fakes under the same texts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mmdisco_cli.cache.texts import EncodedTexts
from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.training.batch import Batch
from mmdisco_cli.training.pairing import Captions, Partners

LatentsOf = Callable[[Tensor, Sequence[str]], State]
"""The latents (B, ...) of the clips of some rows (B,), of some modalities."""
Readable = Callable[[Tensor], Tensor]
"""Which of the clips of some rows (B,) can be read."""
Ahead = Callable[["CaptionedClips", int, torch.Generator], None]
"""What prepares for the draw of a number of tuples from a generator, and leaves that as it was."""


@dataclass(frozen=True)
class CaptionedClips:
    """A source of real tuples with their texts.

    A share `dropout` of them sees the empty text in place of its own, in all modalities. Tuples come in sets of `sets`,
    the first tuple of each set, then the second of each, and so on: those of a set may be re-paired with one another,
    or else are not `comparable`. `encoded` are the texts where they were encoded beforehand. `ahead` is called
    before each draw, so that it can prepare what is drawn next. Sets with a clip that is not `readable` are
    drawn again, so that tuples are as if it were not there.
    """

    captions: Captions
    latents: LatentsOf
    dropout: float = 0.0
    sets: int = 1
    encoded: EncodedTexts | None = None
    ahead: Ahead | None = None
    readable: Readable | None = None

    @cached_property
    def partners(self) -> Partners:
        """Return which clips may be re-paired."""
        return Partners(self.captions.keys, self.captions.sources)

    def __call__(self, count: int, generator: torch.Generator) -> Batch:
        """Return tuples of clips drawn at random."""
        if self.ahead:
            self.ahead(self, count, generator)
        rows, dropped, found = self._drawn(-(-count // self.sets), count, generator)
        return self._batch(rows, dropped, found, count)

    def beginning_with(self, rows: Tensor, count: int, generator: torch.Generator) -> Batch:
        """Return tuples of which `rows` (B,) are the first of each set."""
        return self._batch(*self._in_sets(rows, generator), count)

    def _drawn(self, each: int, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return so many sets of clips that can be read, of which `count` clips are wanted: see `_in_sets`."""
        first = torch.randint(len(self.captions), (each,), generator=generator)
        rows, dropped, found = self._in_sets(first, generator)
        if self.readable is None:
            return rows, dropped, found
        wanted = torch.arange(rows.numel()) < count
        wanted[:count] &= ~self.readable(rows.flatten()[:count])
        broken = wanted.reshape(rows.shape).any(0)
        if bool(broken.any()):
            again = int(broken.sum())
            rows[:, broken], dropped[broken], found[broken] = self._drawn(again, again * self.sets, generator)
        return rows, dropped, found

    def _in_sets(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows (sets, B) of sets that begin with `rows` (B,), which see no text, and which are comparable."""
        dropped = self.dropped(rows, generator)
        if self.sets == 1:
            return rows[None], dropped, torch.ones_like(dropped)
        rows, dropped = self._comparable(rows, dropped, generator)
        others, found = self.partners.draw(rows, dropped, self.sets - 1, generator)
        return torch.stack([rows, *others]), dropped, found

    def _batch(self, rows: Tensor, dropped: Tensor, found: Tensor, count: int) -> Batch:
        dropped, found = (x.repeat(self.sets)[:count] for x in (dropped, found))
        return self.batch(rows.flatten()[:count], dropped, found if self.sets > 1 else None)

    def dropped(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return which of the rows (B,) see no text: a share of them, and all that have none."""
        return (torch.rand(len(rows), generator=generator) < self.dropout) | self.captions.missing[rows]

    def batch(self, rows: Tensor, dropped: Tensor, comparable: Tensor | None = None) -> Batch:
        """Return the clips of these rows with their texts."""
        latents = self.latents(rows, tuple(self.captions.texts))
        texts, labels = self.captions.of(rows, dropped), self.captions.labels_of(rows)
        return Batch(latents, texts, labels, rows, comparable)

    def _comparable(self, rows: Tensor, dropped: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the rows such that at least one can be re-paired: without any, a step would classify nothing."""
        pairable = self.partners.sizes >= self.sets
        if bool((dropped | pairable[rows]).any()):
            return rows, dropped
        first = torch.arange(len(rows)) == 0
        if self.dropout:
            return rows, dropped | first
        chosen = pairable.nonzero()[:, 0]
        if not len(chosen):
            return rows, dropped
        return torch.where(first, chosen[torch.randint(len(chosen), (1,), generator=generator)], rows), dropped


@dataclass(frozen=True)
class CaptionedFakes:
    """A source of fakes for real tuples with texts: `generated` by the base models, row i under the texts of clip i.

    `parts` are the modalities of each base model. Where `mixed`, half of the rows are real clips re-paired within their
    text, as far as it has any others.
    """

    clips: CaptionedClips
    generated: LatentsOf
    parts: tuple[tuple[str, ...], ...]
    mixed: bool = False

    def __call__(self, real: Batch, generator: torch.Generator) -> Batch:
        """Return as many fakes as real tuples, with their texts."""
        if real.rows is None:
            raise ValueError("fakes of captioned clips are made for tuples with rows")
        dropped = torch.tensor([not any(texts) for texts in zip(*real.texts.values(), strict=True)])
        latents: State = {}
        for number, names in enumerate(self.parts):
            # Under no text the parts of a fake have nothing in common, nor may the texts that they were made under.
            other = torch.randint(len(self.clips.captions), (len(real),), generator=generator)
            latents |= self.generated(torch.where(dropped, other, real.rows) if number else real.rows, names)
        if self.mixed:
            latents = self._half_repaired(latents, real.rows[: len(real) // 2], dropped, generator)
        return Batch(latents, real.texts, real.labels, real.rows)

    def _half_repaired(self, made: State, rows: Tensor, dropped: Tensor, generator: torch.Generator) -> State:
        half = len(rows)
        others, found = self.clips.partners.draw(rows, dropped[:half], len(made) - 1, generator)
        if self.clips.readable:
            for place in others:
                found = found & self.clips.readable(place)
            others = torch.stack([torch.where(found, place, rows) for place in others])
        for m, place in zip(made, (rows, *others), strict=True):
            repaired = self.clips.latents(place, (m,))[m]
            mask = found.to(repaired.device).reshape(-1, *[1] * (repaired.ndim - 1))
            made[m] = torch.cat([torch.where(mask, repaired, made[m][:half].to(repaired)), made[m][half:].to(repaired)])
        return made
