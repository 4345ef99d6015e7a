"""`--given`: real media in place of sampling some modalities, in exactly the shape that the models make."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from mmdisco_cli.assembly.trial import RANGED, far_outside
from mmdisco_cli.data.contract import as_float
from mmdisco_cli.data.manifest import MANIFEST, complete_rows
from mmdisco_cli.diffusion.backbone import TEXT, ModalityPlan
from mmdisco_cli.errors import DataError, UsageError, did_you_mean
from mmdisco_cli.kinds.contract import Item
from mmdisco_cli.kinds.known import OpenKind, kind_of_file, open_kinds
from mmdisco_cli.sampling.given_texts import find_texts
from mmdisco_cli.sampling.outputs import LATENTS
from mmdisco_cli.schema import at_home

Given = Mapping[str, str | Path | Tensor]
"""By modality a file or a folder, of kind text a text or a file or folder of texts; or the media themselves."""


class Source(Protocol):
    """The media of a given modality; sample i takes item i, starting over after the last."""

    @property
    def names(self) -> Sequence[str]:
        """Return what each is called in the manifest: its file, or its text."""

    def name(self, index: int) -> str:
        """Return what that of one sample is called."""

    def read(self, indices: Sequence[int], plan: ModalityPlan) -> Tensor | Sequence[str]:
        """Return the media (B, *media_shape) of some samples, or the texts that a backbone makes media of."""

    def digest(self) -> str:
        """Return a hash of all of them."""

    def notes(self, plan: ModalityPlan, count: int) -> list[str]:
        """Return what is changed on the way to the shape of the plan, of those that the first samples take."""


@dataclass(frozen=True)
class Files:
    """The files of a given modality, read from the beginning of each file's stream."""

    modality: str
    files: tuple[Path, ...]
    kind: OpenKind

    @property
    def names(self) -> Sequence[str]:
        """Return the paths."""
        return [str(file) for file in self.files]

    def file(self, index: int) -> Path:
        """Return the file of one sample."""
        return self.files[index % len(self.files)]

    def name(self, index: int) -> str:
        """Return the path of that of one sample."""
        return str(self.file(index))

    def read(self, indices: Sequence[int], plan: ModalityPlan) -> Tensor:
        """Return the media (B, *media_shape) of some samples."""
        return torch.stack([_read(self.file(index), self.kind, Item(self.modality, plan)) for index in indices])

    def digest(self) -> str:
        """Return a hash of the files' names and bytes."""
        whole = hashlib.sha256()
        for file in self.files:
            whole.update(os.fsencode(file.name) + b"\0" + hashlib.sha256(_bytes(file)).digest())
        return whole.hexdigest()[:16]

    def notes(self, plan: ModalityPlan, count: int) -> list[str]:
        """Return a line on the files that reading changes."""
        used, item = self.files[:count], Item(self.modality, plan)
        changes = [(file, change) for file in used if (change := self.kind.change(file, item))]
        if not changes:
            return []
        (first, change), count = changes[0], len(changes)
        more = f"; {count} of {len(used)} files are changed" if count > 1 else ""
        return [f"--given {self.modality}: {first}: {change}{more}"]


@dataclass(frozen=True)
class Held:
    """Media (N, *media_shape) of a given modality, in memory."""

    modality: str
    media: Tensor

    @property
    def names(self) -> Sequence[str]:
        """Return their numbers."""
        return [str(number) for number in range(len(self.media))]

    def name(self, index: int) -> str:
        """Return the number of that of one sample."""
        return str(index % len(self.media))

    def read(self, indices: Sequence[int], plan: ModalityPlan) -> Tensor:
        """Return the media (B, *media_shape) of some samples."""
        return self.media[[index % len(self.media) for index in indices]].float()

    def digest(self) -> str:
        """Return a hash of their bytes."""
        return hashlib.sha256(self.media.float().contiguous().cpu().numpy().tobytes()).hexdigest()[:16]

    def notes(self, plan: ModalityPlan, count: int) -> list[str]:
        """Return nothing: media in memory are taken as they are."""
        return []


def find_sources(
    given: Given, modalities: Mapping[str, ModalityPlan], kinds: Mapping[str, OpenKind] | None = None
) -> dict[str, Source]:
    """Return the source of each given modality, from a file, a folder in sorted order or a text.

    A folder of samples gives the files that its manifest lists for the modality. Without `kinds` each label is one.

    Raises:
        UsageError: an unknown modality, a file of another kind, media the model cannot take, or none left to sample.
        DataError: a path that does not exist, or a folder without media.
    """
    for modality in given:
        if modality not in modalities:
            raise UsageError(f"--given {modality}: unknown modality{did_you_mean(modality, modalities)}")
    if given and given.keys() == modalities.keys():
        raise UsageError(f"--given {' and '.join(given)}: leaves nothing to sample")
    known = kinds if kinds is not None else open_kinds(given)
    return {
        modality: _held(modality, value, modalities[modality], known[modality].name in RANGED)
        if isinstance(value, Tensor)
        else _source(modality, value, known[modality])
        for modality, value in given.items()
    }


def read_media(path: Path, modality: str, plan: ModalityPlan, kind: OpenKind | None = None) -> Tensor:
    """Return one item (*media_shape), audio and video in [-1, 1], of a kind, by default that of its label's name.

    Raises:
        DataError: naming the file, where it cannot be read so.
    """
    return _read(path, kind or open_kinds([modality])[modality], Item(modality, plan))


def _read(path: Path, kind: OpenKind, item: Item) -> Tensor:
    media = kind.read(path, item)
    if isinstance(media, str):
        raise DataError(f"{path}: holds text, not {item.label}")
    return media


def _held(modality: str, media: Tensor, plan: ModalityPlan, ranged: bool) -> Held:
    """Return media of one sample or of several; raise UsageError where they are none that the model takes."""
    several = media.unsqueeze(0) if media.ndim == len(plan.media_shape) else media
    if several.shape[1:] != plan.media_shape or not len(several):
        shape = tuple(media.shape)
        raise UsageError(f"given {modality}: media of shape {shape}, but the model takes (N, *{plan.media_shape})")
    several = as_float(several) if ranged else several
    if not several.isfinite().all():
        raise UsageError(f"given {modality}: holds values that are not finite")
    if most := far_outside(several, ranged):
        raise UsageError(f"given {modality}: reaches {most:g}, but media of its kind are in [-1, 1]")
    return Held(modality, several)


def _source(modality: str, value: str | Path, kind: OpenKind) -> Source:
    path = Path(at_home(str(value)))
    if kind.name == TEXT:
        return find_texts(modality, str(value), _listed(modality, path))
    return Files(modality, _files(modality, path, kind), kind)


def _files(modality: str, path: Path, kind: OpenKind) -> tuple[Path, ...]:
    if path.is_file():
        _require_kind(modality, path, kind)
        return (path,)
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    found = _listed(modality, path) or _ending(path, kind)
    if not found:
        raise DataError(f"{path}: no file ends in {', '.join(kind.suffixes)}")
    return tuple(found)


def _listed(modality: str, folder: Path) -> list[Path]:
    """Return the files of a modality that a folder's manifest lists, none where it does not list those of every row."""
    rows = complete_rows(folder) if (folder / MANIFEST).is_file() else []
    names = [str((row.get("files") or {}).get(modality, "")) for row in rows]
    return [folder / name for name in names] if all(names) else []


def _ending(folder: Path, kind: OpenKind) -> list[Path]:
    named = [file for file in folder.iterdir() if kind.owns(file) and not file.name.startswith(".")]
    return sorted(file for file in named if not file.name.endswith(LATENTS))


def _require_kind(modality: str, path: Path, kind: OpenKind) -> None:
    """Refuse a file whose name says that it is of another kind; audio may be that of a video."""
    other = kind_of_file(path)
    if not kind.owns(path) and other not in (None, kind.name):
        raise UsageError(f"--given {modality}: {path} is a file of kind {other}, not {kind.name} ({kind.spec.suffix})")


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from error
