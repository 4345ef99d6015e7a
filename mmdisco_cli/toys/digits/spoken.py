"""Recordings of spoken digits: a folder of files DIGIT_SPEAKER_INDEX.wav, as the Free Spoken Digit Dataset has them."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from mmdisco_cli.data.media import read_audio
from mmdisco_cli.errors import DataError, did_you_mean
from mmdisco_cli.toys.digits.parts import Places, part_of_recording, places_of

_NAME = re.compile(r"(\d)_([^_]+)_(\d+)\.wav", re.IGNORECASE)


@dataclass(frozen=True)
class Recording:
    """One file, and what its name says."""

    path: Path
    digit: int
    speaker: str
    index: int

    @property
    def part(self) -> str:
        """Return the part that it belongs to."""
        return part_of_recording(self.index)


@dataclass(frozen=True)
class Spoken:
    """Recordings in order of name, read at one length and rate: shorter ones end in silence, longer ones are cut."""

    recordings: Sequence[Recording]
    seconds: float
    sample_rate: int
    report: tuple[str, ...] = ()
    _kept: dict[int, Tensor] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def fingerprint(self) -> str:
        """Name the exact recordings."""
        digest = hashlib.sha256(f"{self.seconds}:{self.sample_rate}".encode())
        for one in self.recordings:
            digest.update(one.path.name.encode() + hashlib.sha256(one.path.read_bytes()).digest())
        return digest.hexdigest()[:16]

    @cached_property
    def places(self) -> Places:
        """Return the places of the recordings by part and digit."""
        return places_of((one.part, one.digit) for one in self.recordings)

    def read(self, place: int) -> Tensor:
        """Return one recording (1, samples) in [-1, 1]; raise DataError where it cannot be read."""
        if place not in self._kept:
            whole = Fraction(self.seconds)
            path = self.recordings[place].path
            self._kept[place] = read_audio(path, None, whole, self.sample_rate, 1, slack=whole)
        return self._kept[place]

    def unreadable(self, places: Sequence[int]) -> dict[int, str]:
        """Return which of these recordings cannot be read, and why not."""
        why = {}
        for place in places:
            try:
                self.read(place)
            except DataError as error:
                why[place] = str(error).removeprefix(f"{self.recordings[place].path}: ")
        return why

    def stacked(self, places: Sequence[int]) -> Tensor:
        """Return recordings (B, 1, samples)."""
        return torch.stack([self.read(place) for place in places])


def open_spoken(folder: Path, speakers: Sequence[str], seconds: float, sample_rate: int) -> Spoken:
    """Open the recordings of these speakers, of all where none is named.

    Raises:
        DataError: no such folder, no recordings in it, or none of a speaker who is named.
    """
    if not folder.is_dir():
        raise DataError(f"data.spoken: {folder}: no such folder")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".wav" and path.name[0] != ".")
    named = [(path, match) for path in files if (match := _NAME.fullmatch(path.name))]
    if not named:
        raise DataError(f"data.spoken: {folder}: holds no recording named DIGIT_SPEAKER_INDEX.wav, as 7_jackson_3.wav")
    found = [Recording(path, int(m[1]), m[2], int(m[3])) for path, m in named]
    known = sorted({one.speaker for one in found})
    for name in speakers:
        if name not in known:
            raise DataError(f"data.speakers: no recordings of {name}{did_you_mean(name, known)}: of {', '.join(known)}")
    kept = [one for one in found if not speakers or one.speaker in speakers]
    odd = len(files) - len(named)
    report = (f"{folder}: {odd} .wav files not named DIGIT_SPEAKER_INDEX.wav are left out",) if odd else ()
    return Spoken(kept, seconds, sample_rate, report)
