"""Real digits beside samples: pairs written as samples are, and all items of the other half as reference."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mmdisco_cli.assembly import request_of
from mmdisco_cli.diffusion.backbone import AUDIO, IMAGE, ModalityPlan
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.kinds.contract import Item, Media
from mmdisco_cli.kinds.known import OpenKind
from mmdisco_cli.measures.clip_sets import MAY_FAIL, report_unusable
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run.files import make_directory
from mmdisco_cli.toys.digits.dataset import MODALITIES, SAMPLE_RATE, WORDS, Digits, build
from mmdisco_cli.toys.digits.judges import Judges
from mmdisco_cli.toys.digits.options import DigitsOptions
from mmdisco_cli.toys.digits.parts import PARTS, Places
from mmdisco_cli.toys.digits.reading import Files
from mmdisco_cli.toys.digits.spoken import Spoken
from mmdisco_cli.toys.digits.written import drawn

Pool = Mapping[int, Sequence[int]]
"""Places of items by digit."""


@dataclass(frozen=True)
class RealDigits:
    """Items of the digits data in two halves: one makes pairs, the other is what samples are compared with."""

    data: Digits
    paired: Mapping[str, Pool]
    others: Mapping[str, Sequence[int]]

    def digit(self, index: int) -> int:
        """Return the digit of one pair."""
        return random.Random(f"real:{index}").randrange(len(WORDS))

    def media(self, modality: str, index: int) -> Media:
        """Return one modality of one pair, without batch."""
        digit = self.digit(index)
        if modality not in self.paired:
            return WORDS[digit]
        return self._read(modality, [random.Random(f"real:{modality}:{index}").choice(self.paired[modality][digit])])[0]

    def features(self, judges: Judges) -> dict[str, Tensor]:
        """Return what the judges see in the other half, (N, 64) by modality."""
        return {m: self._features(judges, m, places) for m, places in self.others.items()}

    def _features(self, judges: Judges, modality: str, places: Sequence[int]) -> Tensor:
        found = judges.judge(modality, self._read(modality, places)).features
        assert found is not None
        return found

    def _read(self, modality: str, places: Sequence[int]) -> Tensor:
        data = self.data
        if modality == AUDIO and data.spoken:
            return data.spoken.stacked(places)
        assert data.written is not None
        return drawn(data.written.images[list(places)], data.side, data.options.slant, data.options.invert)


def open_real(recipe: Recipe, reference: Path | None) -> RealDigits:
    """Open the held-out digits of a recipe's data, or all that lie in the folder `reference`.

    Raises:
        UsageError: the recipe's data are not digits, or its modalities not theirs.
        DataError: they cannot be read, or a digit has too few.
    """
    if recipe.data is None or not isinstance(recipe.data.options, DigitsOptions):
        raise UsageError(f"eval.protocol: {recipe.eval.protocol} needs the data set digits")
    if unknown := [m for m in recipe.modalities if m not in MODALITIES]:
        known = ", ".join(MODALITIES)
        raise UsageError(f"backbones: the protocol digits judges {known}, and nothing called {unknown[0]}")
    options = recipe.data.options
    if reference is not None:
        options = replace(options, spoken=str(reference), written=str(reference), speakers=())
    data, title = build(options, request_of(recipe), recipe.modalities), str(reference or "held-out digits")
    sources = {AUDIO: data.spoken, IMAGE: data.written}
    pools = {m: _pool(source.places, reference is None) for m, source in sources.items() if source}
    if data.spoken:
        pools[AUDIO] = _readable(data.spoken, pools[AUDIO], title)
    for m, pool in pools.items():
        if lacking := [WORDS[digit] for digit in range(10) if len(pool.get(digit, ())) < 2]:
            raise DataError(f"{title}: too few of {', '.join(lacking)} ({m})")
    paired = {m: {digit: places[::2] for digit, places in pool.items()} for m, pool in pools.items()}
    others = {m: [place for places in pool.values() for place in places[1::2]] for m, pool in pools.items()}
    return RealDigits(data, paired, others)


def _pool(places: Places, heldout: bool) -> Pool:
    parts = ("heldout",) if heldout else PARTS
    return {digit: sorted(place for part in parts for place in places[part].get(digit, ())) for digit in range(10)}


def _readable(spoken: Spoken, pool: Pool, title: str) -> Pool:
    """Return a pool without recordings that cannot be read; raise DataError where they are more than a few."""
    places = [place for own in pool.values() for place in own]
    bad = spoken.unreadable(places)
    report_unusable([(spoken.recordings[k].path, why) for k, why in bad.items()], len(places), title, MAY_FAIL)
    return {digit: [place for place in own if place not in bad] for digit, own in pool.items()}


def write_real(real: RealDigits, folder: Path, kinds: Mapping[str, OpenKind], n: int) -> list[Files]:
    """Write n real pairs as samples are written, each modality in a folder of its own, and return their files."""
    written: list[Files] = []
    for index in range(n):
        files: dict[str, Path] = {}
        for m, kind in kinds.items():
            make_directory(folder / m)
            path, media = folder / m / f"{index:07d}{kind.spec.suffix}", real.media(m, index)
            files[m] = kind.write(path, media, Item(m, _plan(media)))
        written.append(files)
    return written


def true_digits(real: RealDigits, n: int) -> Tensor:
    """Return the digits (N,) of the first pairs."""
    return torch.tensor([real.digit(index) for index in range(n)])


def _plan(media: Media) -> ModalityPlan:
    shape = () if isinstance(media, str) else tuple(media.shape)
    return ModalityPlan(shape, shape, SAMPLE_RATE if len(shape) == 2 else None, 0.0)
