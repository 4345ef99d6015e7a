"""`train.bank: 0`: clips are decoded for each step, by worker processes that know what the next steps will draw.

What a step draws follows from (seed, rank, step), as everything does, so a run that goes on reads the same clips.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.cache.content import MAX_BAD
from mmdisco_cli.cache.layout import rows_a_chunk
from mmdisco_cli.cache.workers import Chunk, Read, Reader, reading, worth_starting
from mmdisco_cli.data.contract import Dataset, as_float
from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.errors import DataError
from mmdisco_cli.recipes.schema import TrainConfig
from mmdisco_cli.training.batch import Batch
from mmdisco_cli.training.captioned import CaptionedClips
from mmdisco_cli.training.loop import step_generator
from mmdisco_cli.training.pairing import Captions

LARGEST_START = 2**40
UNKNOWN, NONE = -2, -1
"""The step that is drawn for, before the first draw, and of draws that belong to no step."""
Plan = Callable[[torch.Generator], list[int]]
"""Which clips a draw from a generator takes."""


def nowhere(text: str) -> None:
    """Say a line to nobody."""


class Lost:
    """The clips that cannot be read, of `length` or of ever more: said once each, and limited."""

    def __init__(self, length: int | None, max_bad: float, say: Callable[[str], None]) -> None:
        self.rows: set[int] = set()
        self._length, self._max_bad, self._say = length, max_bad, say

    def add(self, lost: Sequence[tuple[int, str]]) -> None:
        """Count more of them; raise DataError where they are too many."""
        for row, why in lost:
            if row not in self.rows:
                self.rows.add(row)
                self._say(f"skipped {why}")
            many = self._length is None or len(self.rows) > min(self._max_bad * self._length, self._length - 1)
            if many:
                total = f" of {self._length}" if self._length else ""
                raise DataError(
                    f"{len(self.rows)}{total} clips cannot be read, more than data.max_bad={self._max_bad:g} allows "
                    f"(lately {why})"
                )


class FreshClips:
    """Latents of clips that are read when they are drawn, or before that by `workers`.

    These know what the steps of a training (`config`) will draw on a rank. A clip that cannot be read is said once, by
    `say`; more of them than the share `max_bad` are an error.
    """

    def __init__(
        self,
        assembly: Assembly,
        dataset: Dataset,
        config: TrainConfig,
        rank: int = 0,
        workers: int = 0,
        max_bad: float = MAX_BAD,
        say: Callable[[str], None] = nowhere,
    ) -> None:
        self._assembly, self._dataset, self._config = assembly, dataset, config
        self._rank, self._closing = rank, ExitStack()
        shapes = {m: plan.media_shape for m, plan in assembly.modalities.items()}
        self._reader, self._size = Reader({"": dataset}, shapes), rows_a_chunk(shapes)
        length = dataset.length if dataset.length is not None else LARGEST_START
        self._workers = worth_starting(self._reader, length, workers)
        self._read: Iterator[Read] | None = None
        self._step, self._due = UNKNOWN, False
        self._lost = Lost(dataset.length, max_bad, say)
        self._held: dict[int, State] = {}

    def follow(self, generator: torch.Generator, plan: Plan) -> None:
        """Let workers read what the steps from this draw's on will take; of any other draw do nothing."""
        if not self._workers:
            return
        if self._step == UNKNOWN:
            self._step = self._step_of(generator)
            if self._step != NONE:
                chunks = self._chunks(plan, self._step)
                self._read = self._closing.enter_context(reading(self._reader, chunks, self._workers))
        self._due = self._step != NONE and self._generator(self._step).initial_seed() == generator.initial_seed()
        self._step += self._due

    def readable(self, rows: Tensor) -> Tensor:
        """Return which of some clips (B,) can be read, and hold these until their latents are wanted.

        Raises:
            DataError: more clips cannot be read than `max_bad` allows.
        """
        wanted = rows.tolist()
        for part in self._prepared(wanted) or self._read_here(wanted):
            self._held |= {row: {m: x[k] for m, x in part.media.items()} for k, row in enumerate(part.rows)}
            self._lost.add(part.lost)
        return torch.tensor([row in self._held for row in wanted], dtype=torch.bool)

    def latents(self, rows: Tensor, names: Sequence[str]) -> State:
        """Return the latents (B, ...) of clips by their numbers (B,); raise DataError where one cannot be read."""
        held, self._held = self._held, {}
        if held.keys() >= set(rows.tolist()):
            media = {m: torch.stack([held[row][m] for row in rows.tolist()]) for m in names}
        else:
            media = dict(self._dataset.media(rows.tolist(), tuple(names)))
        found = self._assembly.encode({m: as_float(media[m].to(self._assembly.device)) for m in names})
        return {m: x.float() for m, x in found.items()}

    def _read_here(self, rows: list[int]) -> list[Read]:
        left = [row for row in dict.fromkeys(rows) if row not in self._held and row not in self._lost.rows]
        return [self._reader["", left[i : i + self._size]] for i in range(0, len(left), self._size)]

    def _prepared(self, rows: list[int]) -> list[Read]:
        """Return the clips of this step where workers have read them: the first that it takes."""
        if not self._due or self._read is None:
            return []
        self._due = False
        parts = [next(self._read) for _ in range(0, len(rows), self._size)]
        found = [{*part.rows, *(row for row, _ in part.lost)} for part in parts]
        if found != [set(rows[i : i + self._size]) for i in range(0, len(rows), self._size)]:
            raise RuntimeError("workers have read other clips than a step draws")
        return parts

    def _chunks(self, plan: Plan, first: int) -> Iterator[Chunk]:
        for step in range(first, self._config.steps):
            rows = plan(self._generator(step))
            yield from (("", rows[i : i + self._size]) for i in range(0, len(rows), self._size))

    def _generator(self, step: int) -> torch.Generator:
        return step_generator(self._config.seed, self._rank, step)

    def _step_of(self, generator: torch.Generator) -> int:
        """Return the step that a generator belongs to, NONE where that is none."""
        seed = generator.initial_seed()
        return next((s for s in range(self._config.steps) if self._generator(s).initial_seed() == seed), NONE)


def fresh_tuples(clips: FreshClips, dataset: Dataset, names: Sequence[str]) -> Callable[[int, torch.Generator], Batch]:
    """Return new clips at every draw, in a row from a random place, so that a data set made in blocks stays fast."""

    def draw(batch: int, generator: torch.Generator) -> Batch:
        clips.follow(generator, lambda later: _indices(dataset.length, batch, later))
        rows = torch.tensor(_indices(dataset.length, batch, generator))
        broken = ~clips.readable(rows)
        while bool(broken.any()):
            # As if they were not there: others are drawn, whichever of them were known to be broken before.
            rows[broken] = torch.tensor(_indices(dataset.length, int(broken.sum()), generator))
            broken = ~clips.readable(rows)
        return Batch(clips.latents(rows, names))

    return draw


def fresh_captioned(clips: FreshClips, captions: Captions, dropout: float, sets: int) -> CaptionedClips:
    """Return new clips with texts at every draw, of those that have `captions`."""
    return CaptionedClips(captions, clips.latents, dropout, sets, ahead=_follower(clips), readable=clips.readable)


def _follower(clips: FreshClips) -> Callable[[CaptionedClips, int, torch.Generator], None]:
    def follow(source: CaptionedClips, count: int, generator: torch.Generator) -> None:
        def plan(later: torch.Generator) -> list[int]:
            drawn: list[int] = []

            def noted(rows: Tensor, names: Sequence[str]) -> State:
                drawn.extend(rows.tolist())
                return dict.fromkeys(names, torch.empty(len(rows), 0))

            replace(source, latents=noted, ahead=None, readable=None)(count, later)
            return drawn

        clips.follow(generator, plan)

    return follow


@dataclass(frozen=True)
class EndlessClips:
    """A source of real tuples with texts of clips that never end: those of a draw are re-paired with one another.

    `captions` are those of clips by number.
    """

    clips: FreshClips
    captions: Callable[[Sequence[int]], Captions]
    dropout: float
    sets: int

    def __call__(self, count: int, generator: torch.Generator) -> Batch:
        """Return tuples of clips in a row from a random place; the first of each set are the first of these clips."""
        each = -(-count // self.sets)
        size = each * self.sets
        self.clips.follow(generator, lambda later: _indices(None, size, later))
        pool = _indices(None, size, generator)
        captions = self.captions(pool)
        latents = self.clips.latents(torch.tensor(pool), tuple(captions.texts))
        source = CaptionedClips(captions, lambda rows, names: _at(latents, rows, names), self.dropout, self.sets)
        return source.beginning_with(torch.arange(each), count, generator)


def _at(latents: State, rows: Tensor, names: Sequence[str]) -> State:
    return {m: latents[m][rows.to(latents[m].device)] for m in names}


def _indices(length: int | None, batch: int, generator: torch.Generator) -> list[int]:
    if length is not None:
        return [int(i) for i in torch.randint(length, (batch,), generator=generator)]
    start = int(torch.randint(LARGEST_START, (), generator=generator))
    return list(range(start, start + batch))
