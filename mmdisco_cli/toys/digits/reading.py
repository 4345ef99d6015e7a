"""From files of samples to verdicts: what the judges say of every file that a manifest lists, by modality."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from mmdisco_cli.data.manifest import Row, complete_rows, sample_key
from mmdisco_cli.data.media import read_audio
from mmdisco_cli.diffusion.backbone import AUDIO, IMAGE, TEXT
from mmdisco_cli.errors import DataError
from mmdisco_cli.toys.digits.dataset import SAMPLE_RATE, SECONDS
from mmdisco_cli.toys.digits.judges import Judges, Verdicts, digits_of
from mmdisco_cli.toys.digits.written import SIDE

Files = Mapping[str, Path]
"""The files of one sample by modality."""


@dataclass(frozen=True)
class Judged:
    """N samples, sample by sample: their files, and the verdicts on each modality; `kinds` by modality."""

    files: Sequence[Files]
    kinds: Mapping[str, str]
    verdicts: Mapping[str, Verdicts]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.files)


def judge_files(judges: Judges, files: Sequence[Files], kinds: Mapping[str, str]) -> Judged:
    """Return the verdicts on files of samples; raise DataError where one cannot be read."""
    found = {m: _judged(judges, kind, [one[m] for one in files]) for m, kind in kinds.items()}
    return Judged(files, kinds, found)


def _judged(judges: Judges, kind: str, paths: Sequence[Path]) -> Verdicts:
    if kind == TEXT:
        return digits_of([_text(path) for path in paths])
    read = read_recording if kind == AUDIO else read_image
    return judges.judge(kind, torch.stack([read(path) for path in paths]))


def sample_files(folder: Path, kinds: Mapping[str, str], count: int | None = None) -> list[Files]:
    """Return the files of the samples that a folder's manifest lists, in order of index, at most `count`.

    `kinds` are those that its modalities must have.

    Raises:
        DataError: it lists none, or samples without a file of each modality and its kind.
    """
    return [_files(folder, row, kinds) for row in _rows(folder, count)]


def noises_of(folder: Path, count: int) -> list[tuple[int, int]]:
    """Return index and seed of each of these samples: of equal ones, made by the same models, the noise is the same."""
    return [sample_key(row) for row in _rows(folder, count)]


def _rows(folder: Path, count: int | None) -> list[Row]:
    rows = complete_rows(folder)[:count]
    if not rows:
        raise DataError(f"{folder}: holds no samples of mmdisco")
    return rows


def _files(folder: Path, row: Row, kinds: Mapping[str, str]) -> Files:
    files, made = row.get("files") or {}, row.get("kinds") or {}
    if absent := [m for m in kinds if m not in files]:
        raise DataError(f"{folder}: sample {row['index']} has no file of {', '.join(absent)}")
    if other := [m for m, kind in kinds.items() if made.get(m, kind) != kind]:
        m = other[0]
        raise DataError(f"{folder}: in sample {row['index']} {m} is of kind {made[m]}, not {kinds[m]}")
    return {m: folder / str(files[m]) for m in kinds}


def read_recording(path: Path) -> Tensor:
    """Return the first second (1, samples) of a recording, in mono at 16 kHz; a shorter one ends in silence."""
    whole = Fraction(SECONDS)
    return read_audio(path, None, whole, SAMPLE_RATE, 1, slack=whole)


def read_image(path: Path) -> Tensor:
    """Return an image (1, 28, 28) in [-1, 1]; one that is a multiple of that, or wider, is scaled down by areas."""
    try:
        with Image.open(path) as image:
            pixels = torch.from_numpy(np.array(image.convert("L"))).float()[None, None] / 127.5 - 1
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(f"{path}: cannot be read as an image ({error})") from error
    height, width = pixels.shape[2:]
    times = max(round(min(height, width) / SIDE), 1)
    small = F.avg_pool2d(pixels, times) if min(height, width) >= SIDE else F.interpolate(pixels, (SIDE, SIDE))
    return small[0]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from error


def judged_kinds() -> tuple[str, ...]:
    """Return the kinds that can be judged."""
    return (AUDIO, IMAGE, TEXT)
