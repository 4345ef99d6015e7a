"""`--given`: real media in place of sampling some modalities, read in exactly the shape that the models make."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from mmdisco_cli.data.media import as_fps, read_audio, read_video
from mmdisco_cli.data.naming import SUFFIXES, file_errors, has_suffix
from mmdisco_cli.diffusion.backbone import ModalityPlan
from mmdisco_cli.errors import DataError, UsageError, did_you_mean


@dataclass(frozen=True)
class Source:
    """The files of a given modality; sample i takes the i-th, starting over after the last."""

    modality: str
    files: tuple[Path, ...]

    def file(self, index: int) -> Path:
        """Return the file of one sample."""
        return self.files[index % len(self.files)]

    def read(self, indices: Sequence[int], plan: ModalityPlan) -> Tensor:
        """Return the media (B, *media_shape) of some samples, from the beginning of each file's stream."""
        return torch.stack([read_media(self.file(index), self.modality, plan) for index in indices])

    def digest(self) -> str:
        """Return a hash of the files' names and bytes."""
        whole = hashlib.sha256()
        for file in self.files:
            whole.update(os.fsencode(file.name) + b"\0" + hashlib.sha256(_bytes(file)).digest())
        return whole.hexdigest()[:16]


def find_sources(given: Mapping[str, Path], modalities: Mapping[str, ModalityPlan]) -> dict[str, Source]:
    """Return the source of each given modality, from a file or a folder in sorted order.

    Raises:
        UsageError: an unknown modality, one that cannot be read from a file, or none left to sample.
        DataError: a path that does not exist, or a folder without media.
    """
    for modality in given:
        if modality not in modalities:
            raise UsageError(f"--given {modality}: unknown modality{did_you_mean(modality, modalities)}")
        if modality not in _READERS:
            raise UsageError(f"--given {modality}: only {' and '.join(_READERS)} can be read from a file")
    if given and given.keys() == modalities.keys():
        raise UsageError(f"--given {' and '.join(given)}: leaves nothing to sample")
    return {modality: Source(modality, _files(path)) for modality, path in given.items()}


def read_media(path: Path, modality: str, plan: ModalityPlan) -> Tensor:
    """Return one item (*media_shape) in [-1, 1]; raise DataError, naming the file, where it cannot be read so."""
    with file_errors(path):
        return _READERS[modality](path, plan)


def _read_audio(path: Path, plan: ModalityPlan) -> Tensor:
    channels, samples = plan.media_shape
    rate = round(plan.rate or 0)
    return read_audio(path, None, Fraction(samples, rate), rate, channels)


def _read_video(path: Path, plan: ModalityPlan) -> Tensor:
    _, frames, height, width = plan.media_shape
    return read_video(path, None, frames, as_fps(plan.rate or 0), height, width)


_READERS = {"audio": _read_audio, "video": _read_video}


def _files(path: Path) -> tuple[Path, ...]:
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    found = sorted(file for file in path.iterdir() if has_suffix(file) and not _hidden(file))
    if not found:
        raise DataError(f"{path}: no file ends in {', '.join(SUFFIXES)}")
    return tuple(found)


def _hidden(file: Path) -> bool:
    return file.name.startswith(".")


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from error
