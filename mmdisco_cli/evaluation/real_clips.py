"""Real clips to measure beside samples, written in the same way, so that codecs affect both alike."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from torch import Tensor

from mmdisco_cli.data.clips import ClipsDataset, open_clips
from mmdisco_cli.data.media import as_fps, write_mp4
from mmdisco_cli.errors import DataError
from mmdisco_cli.measures.clip import ClipShape
from mmdisco_cli.measures.clip_sets import MAY_FAIL, report_unusable
from mmdisco_cli.measures.features import SAMPLE_RATE
from mmdisco_cli.recipes.schema import RequestConfig
from mmdisco_cli.run.distribution import Ranks, wait_for_all
from mmdisco_cli.run.files import make_directory, replacing
from mmdisco_cli.run.progress import progress

MARK = "real.json"
SUFFIX = ".mp4"
"""Of the files of real clips."""
_OURS = re.compile(r"\d{7}\.mp4")


class Source(Protocol):
    """What is needed of a data set here."""

    @property
    def fingerprint(self) -> str:
        """Name the exact clips."""

    def media(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, Tensor]:
        """Return the media of some clips by modality."""


@dataclass(frozen=True)
class RealSet:
    """Some clips of a data set."""

    dataset: Source
    indices: Sequence[int]


def shape_of(request: RequestConfig) -> ClipShape:
    """Return the shape that a recipe requests, with the defaults of the data set `clips`."""
    fps = as_fps(request.fps or 10)
    height = request.height or 64
    frames = request.frames or max(1, round((request.seconds or 1.6) * fps))
    return ClipShape(frames, fps, height, request.width or height)


def write_real(
    real: RealSet, folder: Path, fps: Fraction, scale: int, title: str, ranks: Ranks | None = None
) -> list[Path]:
    """Write clips of a data set as files named by index and return them; what lies there of the same data is kept.

    Of several ranks the first writes and the others wait. The folder then holds these files and no others, as `--given`
    needs it. Raise DataError where it cannot be written.
    """
    paths = [folder / f"{index:07d}{SUFFIX}" for index in real.indices]
    if ranks is None or ranks.first:
        _write(real, paths, fps, scale, title)
    wait_for_all(ranks)
    return paths


def _write(real: RealSet, paths: Sequence[Path], fps: Fraction, scale: int, title: str) -> None:
    folder = paths[0].parent
    make_directory(folder)
    _claim(folder, {"dataset": real.dataset.fingerprint, "scale": scale}, {path.name for path in paths})
    with progress(f"writing {title}", len(paths)) as advance:
        for place, (index, path) in enumerate(zip(real.indices, paths, strict=True)):
            if not path.is_file():
                media = real.dataset.media([index], ("audio", "video"))
                write_mp4(path, media["video"][0], media["audio"][0], fps, SAMPLE_RATE, scale=scale)
            advance(place + 1, {})


def open_reference(folder: Path, shape: ClipShape, max_bad: float | None = None) -> ClipsDataset:
    """Open a folder of real clips, none of it held out.

    Raises:
        DataError: no such folder, nothing usable, or more than the share `max_bad` (5 %) of its files unusable.
    """
    with scanning(str(folder)) as show:
        found = open_clips(
            folder, frames=shape.frames, fps=shape.fps, height=shape.height, width=shape.width, sample_rate=SAMPLE_RATE,
            holdout=0, progress=show,
        )  # fmt: skip
    files = {window.name for window in found.windows}
    bad = [(folder / name, reason) for name, reason in found.skipped]
    report_unusable(bad, len(files) + len(bad), str(folder), MAY_FAIL if max_bad is None else max_bad)
    return found


@contextmanager
def scanning(name: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far a folder has been read, in percent."""
    with progress(f"reading {name}", 100) as advance:
        yield lambda done, total: advance(100 * done // total, {"files": done})


def halves(dataset: ClipsDataset, most: int, chosen: Sequence[int] | None = None) -> tuple[RealSet, RealSet]:
    """Return two sets of at most `most` windows each, no file in both where there are at least two files.

    They are of all windows, or of those `chosen`.

    Raises:
        DataError: fewer than two windows.
    """
    windows = {i: dataset.windows[i] for i in (range(len(dataset.windows)) if chosen is None else chosen)}
    if len(windows) < 2:
        raise DataError(
            "a single held-out window: real clips cannot be compared with real clips; add clips, of which about one "
            "in ten is held out, or compare with a folder of others: --samples DIR --reference DIR"
        )
    sides: tuple[list[int], list[int]] = ([], [])
    names = {name: place for place, name in enumerate(dict.fromkeys(window.name for window in windows.values()))}
    for place, (index, window) in enumerate(windows.items()):
        where = names[window.name] if len(names) > 1 else place
        sides[where % 2].append(index)
    return RealSet(dataset, sides[0][:most]), RealSet(dataset, sides[1][:most])


def _claim(folder: Path, mark: dict[str, object], wanted: Collection[str]) -> None:
    """Drop the files of other data or indices from a folder that this module made, and say whose it holds now."""
    path = folder / MARK
    same = path.is_file() and json.loads(path.read_text(encoding="utf-8")) == mark
    for file in folder.iterdir():
        if _OURS.fullmatch(file.name) and not (same and file.name in wanted):
            file.unlink()
    with replacing(path) as part:
        part.write_text(json.dumps(mark) + "\n", encoding="utf-8")
