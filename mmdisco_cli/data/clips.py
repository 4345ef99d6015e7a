"""Anyone's clips as a data set of windows: a folder of video files, a table of them, tars or Parquet.

Opening looks at the index of the data and at the packets of files that it has not met before. What cannot be used is
left out and said in `report`; nothing ever takes its place.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from mmdisco_cli.data.contract import as_float
from mmdisco_cli.data.index.detect import Where, read_index
from mmdisco_cli.data.index.losses import Progress, report_lines
from mmdisco_cli.data.index.memory import Memory, default_folder
from mmdisco_cli.data.index.probes import available_cores
from mmdisco_cli.data.index.scan import Cutting, Present, Scan, present_rows, scan_rows
from mmdisco_cli.data.media import as_fps
from mmdisco_cli.data.naming import CACHE_FILES, SUFFIXES, file_errors
from mmdisco_cli.data.options import ClipsOptions
from mmdisco_cli.data.reading import Clip
from mmdisco_cli.data.windows import ClipWindow, Shape, Stored, WindowStore
from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.run.files import fingerprint

MODALITIES = ("audio", "video")
READING = 2
"""Raised with every change of what is read of the same files, so that nothing made of the former is taken for it."""


class ClipsDataset:
    """Windows of clips: `media` decodes, `captions` and `labels` say what they are of, `split` divides by file."""

    def __init__(self, scanned: Scan, store: WindowStore) -> None:
        self._scan, self._store = scanned, store
        self.length: int | None = len(scanned.windows)
        self.windows = scanned.windows
        self.skipped = scanned.skipped
        self.report = report_lines(scanned.skipped, scanned.notes)
        self.fingerprint = _fingerprint(scanned.windows, store)

    def media(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, Tensor]:
        """Return {"audio": (B, C, S), "video": (B, 3, T, H, W)}, float32 in [-1, 1], of some modalities."""
        return {name: as_float(found) for name, found in self.compact(indices, modalities).items()}

    def compact(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, Tensor]:
        """Return the same as they are stored: audio as int16, video as uint8."""
        stored = [self._stored(self.windows[index]) for index in indices]
        return {name: torch.stack([item[name] for item in stored]) for name in modalities}

    def captions(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, list[str]]:
        """Return the text of each window by modality, empty where there is none."""
        rows = [self.windows[index].row for index in indices]
        return {name: [row.caption_of(name) if row else "" for row in rows] for name in modalities}

    def labels(self, indices: Sequence[int]) -> list[str]:
        """Return the class of each window, empty where there is none."""
        return [row.label if (row := self.windows[index].row) else "" for index in indices]

    def sources(self, indices: Sequence[int]) -> list[str]:
        """Return what names the file that each window is cut from, by its content."""
        return [self.windows[index].digest for index in indices]

    def _stored(self, window: ClipWindow) -> Stored:
        with file_errors(window.info.path):
            return self._store.get(window)

    def clip(self, index: int) -> Clip:
        """Return one window with video and audio."""
        item, shape = self.media([index], MODALITIES), self._store.shape
        start = float(self.windows[index].start)
        return Clip(item["video"][0], item["audio"][0], shape.fps, shape.sample_rate, start)

    def split(self, name: str) -> ClipsDataset:
        """Return the windows of the files in `train` or `heldout`; raise DataError where there are none."""
        if name not in ("train", "heldout"):
            raise DataError(f"a data set is split into train and heldout, not {name!r}")
        chosen = tuple(window for window in self.windows if window.heldout == (name == "heldout"))
        if not chosen:
            raise DataError(f"no file is left for the {name} split: add files, of which about one in ten is held out")
        return ClipsDataset(Scan(chosen, self._scan.skipped, self._scan.notes), self._store)


def open_clips(
    path: str | Path,
    *,
    frames: int,
    fps: float | Fraction,
    height: int,
    width: int,
    sample_rate: int,
    channels: int = 1,
    modalities: Sequence[str] = MODALITIES,
    extensions: Sequence[str] = SUFFIXES,
    stride: float | Fraction | None = None,
    holdout: float = 0.1,
    cache_bytes: int = 1 << 30,
    progress: Progress | None = None,
) -> ClipsDataset:
    """Open a folder, table or shards: windows of frames / fps seconds, `stride` seconds apart (default: end to end).

    A file needs only the `modalities` named, so audio alone can be trained from .wav files. Its side of the split
    hangs on its bytes, or on its folder where `path` holds `train` and `test`. Every file is decoded once, and nothing
    is remembered. Raise DataError where nothing is usable.
    """
    shape = Shape(frames, as_fps(fps), height, width, sample_rate, channels)
    store = WindowStore(shape, modalities, cache_bytes)
    cutting = Cutting(Fraction(stride) if stride else shape.seconds, holdout=holdout)
    return open_rows(Where(str(path), extensions=extensions), store, cutting, Memory(None), progress)


def build(
    options: ClipsOptions,
    request: Request,
    *,
    sample_rate: int = 16000,
    channels: int = 1,
    modalities: Sequence[str] = MODALITIES,
    progress: Progress | None = None,
    checked: Present | None = None,
) -> ClipsDataset:
    """Open what a recipe names, in windows of the length and size that it requests; `checked` is what `check` found."""
    where = _where(options)
    fps = as_fps(request.fps or 10)
    height, width = request.height or 64, request.width or request.height or 64
    frames = request.frames or max(1, round((request.seconds or 1.6) * fps))
    shape = Shape(frames, fps, height, width, sample_rate, channels)
    cutting = Cutting(
        Fraction(str(options.stride)) if options.stride else shape.seconds, options.windows, check=options.check,
        max_bad=options.max_bad, workers=options.workers or available_cores(),
    )  # fmt: skip
    return open_rows(where, WindowStore(shape, modalities, 1 << 30), cutting, _memory(options), progress, checked)


def check(options: ClipsOptions, modalities: Sequence[str]) -> Present:
    """Read the index of what a recipe names and look whether its media are there, without reading any; errors as there.

    Nothing of it depends on what models take, so it comes before these are loaded.
    """
    where, memory = _where(options), _memory(options)
    try:
        return _present(where, modalities, options.max_bad, memory)
    finally:
        memory.close()


def _where(options: ClipsOptions) -> Where:
    if options.path is None:
        raise UsageError("data.path: name a folder of video files or a table, as in --set data.path=DIR")
    if any((Path(options.path) / name).is_file() for name in CACHE_FILES):
        raise DataError(
            f"{options.path}: a cache of encoded clips, which only training a discriminator reads: name the clips"
        )
    return Where(options.path, options.format, options.media, options.columns)


def _memory(options: ClipsOptions) -> Memory:
    return Memory(Path(options.cache) if options.cache else default_folder())


def _present(where: Where, modalities: Sequence[str], max_bad: float, memory: Memory) -> Present:
    if unknown := [modality for modality in modalities if modality not in MODALITIES]:
        raise KeyError(unknown[0])
    with _uncollected():
        return present_rows(read_index(where, memory), Path(where.path), modalities, max_bad)


def open_rows(
    where: Where,
    store: WindowStore,
    cutting: Cutting,
    memory: Memory,
    progress: Progress | None = None,
    checked: Present | None = None,
) -> ClipsDataset:
    """Read an index, unless it is `checked`, and cut its rows into windows; errors as for `read_index`, `scan_rows`.

    Raises:
        DataError: the stride or the held-out fraction is out of range.
        KeyError: no file can hold one of the store's modalities.
    """
    if cutting.step <= 0 or not 0 <= cutting.holdout < 1:
        have = f"{cutting.step} and {cutting.holdout}"
        raise DataError(f"windows need a positive stride and a held-out fraction below 1, not {have}")
    try:
        present = checked or _present(where, store.modalities, cutting.max_bad, memory)
        with _uncollected():
            scanned = scan_rows(present, Path(where.path), store, cutting, memory, progress)
    finally:
        memory.close()
    trouble = [("data.cache", memory.trouble)] if memory.trouble else []
    return ClipsDataset(Scan(scanned.windows, scanned.skipped, (*scanned.notes, *trouble)), store)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Search for no garbage in a block that makes a million objects to stay: that takes a third of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _fingerprint(windows: Sequence[ClipWindow], store: WindowStore) -> str:
    shape = {key: str(value) for key, value in asdict(store.shape).items()}
    rows = [(window.name, window.digest, window.heldout, str(window.start)) for window in windows]
    texts = [window.row.texts if window.row else () for window in windows]
    labelled = any(window.row and window.row.says_more for window in windows)
    text = json.dumps([READING, shape, store.modalities, rows, *([texts] if labelled else [])], sort_keys=True)
    return fingerprint(text)
