"""A folder of video files as a data set of windows: clips of one length, cut from the files.

Every file is decoded once when the folder is opened, so that a broken one is reported then and not hours into a
training. Unusable files are skipped and listed in `report`, never replaced.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor

from mmdisco_cli.data.holdout import held_out
from mmdisco_cli.data.media import as_fps, probe
from mmdisco_cli.data.naming import SUFFIXES, UNUSABLE, file_errors, has_suffix
from mmdisco_cli.data.options import ClipsOptions
from mmdisco_cli.data.reading import Clip
from mmdisco_cli.data.windows import ClipWindow, Shape, Stored, WindowStore, as_float
from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import DataError, UsageError

SEGMENT = 16  # windows decoded in one pass over a file
SILENT = 1e-4  # peak below which a file counts as silent (-80 dB)
STILL = 3  # 8-bit range of a pixel over time below which a video counts as still
MODALITIES = ("audio", "video")


@dataclass(frozen=True)
class Scan:
    """What a folder holds: windows by file name and time, (file, reason) of skipped ones, (file, remark) of others."""

    windows: tuple[ClipWindow, ...]
    skipped: tuple[tuple[str, str], ...]
    notes: tuple[tuple[str, str], ...]


Progress = Callable[[int, int], None]


class ClipsDataset:
    """The windows of a folder's files; `media` decodes them, `split` divides them by file."""

    def __init__(self, scanned: Scan, store: WindowStore) -> None:
        self._scan, self._store = scanned, store
        self.length: int | None = len(scanned.windows)
        self.windows = scanned.windows
        self.skipped = scanned.skipped
        self.report = (
            *(f"skipped {name}: {reason}" for name, reason in scanned.skipped),
            *(f"note {name}: {remark}" for name, remark in scanned.notes),
        )
        self.fingerprint = _fingerprint(scanned.windows, store)

    def media(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, Tensor]:
        """Return {"audio": (B, C, S), "video": (B, 3, T, H, W)}, float32 in [-1, 1], of some modalities."""
        stored = [self._stored(self.windows[index]) for index in indices]
        return {name: torch.stack([as_float(item[name]) for item in stored]) for name in modalities}

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
            raise DataError(f"no file is left for the {name} split: add files or change the held-out fraction")
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
    """Open a folder: windows of frames / fps seconds, `stride` seconds apart (default: end to end).

    A file needs only the `modalities` named, so an audio model can be trained on .wav files. Whether a file is held out
    depends on a hash of its bytes, or on its folder where `path` holds `train` and `test`.

    Raises:
        DataError: no file is usable.
    """
    shape = Shape(frames, as_fps(fps), height, width, sample_rate, channels)
    store = WindowStore(shape, modalities, cache_bytes)
    scanned = scan(path, store, extensions=extensions, stride=stride, holdout=holdout, progress=progress)
    return ClipsDataset(scanned, store)


def build(
    options: ClipsOptions,
    request: Request,
    *,
    sample_rate: int = 16000,
    channels: int = 1,
    modalities: Sequence[str] = MODALITIES,
    progress: Progress | None = None,
) -> ClipsDataset:
    """Open the folder that a recipe names, in windows of the length and size that the recipe requests."""
    if options.path is None:
        raise UsageError("data.path: name a folder of video files, as in --set data.path=DIR")
    fps = as_fps(request.fps or 10)
    return open_clips(
        options.path,
        frames=request.frames or max(1, round((request.seconds or 1.6) * fps)),
        fps=fps,
        height=request.height or 64,
        width=request.width or request.height or 64,
        sample_rate=sample_rate,
        channels=channels,
        modalities=modalities,
        progress=progress,
    )


def scan(
    path: str | Path,
    store: WindowStore,
    *,
    extensions: Sequence[str] = SUFFIXES,
    stride: float | Fraction | None = None,
    holdout: float = 0.1,
    progress: Progress | None = None,
) -> Scan:
    """Decode every file once; return the windows, and why files are skipped.

    Raises:
        DataError: nothing is usable, or the stride or the held-out fraction is out of range.
        KeyError: no file can hold one of the store's modalities.
    """
    root, step = Path(path), Fraction(stride) if stride else store.shape.seconds
    if step <= 0 or not 0 <= holdout < 1:
        raise DataError(f"windows need a positive stride and a held-out fraction below 1, not {step} and {holdout}")
    if unknown := [modality for modality in store.modalities if modality not in MODALITIES]:
        raise KeyError(unknown[0])
    files = _files(root, extensions)
    found: dict[str, list[ClipWindow]] = {}
    skipped, notes = [], []
    for index, file in enumerate(files):
        name = file.relative_to(root).as_posix() if file != root else file.name
        try:
            with file_errors(file):
                found[name] = _windows(file, name, store, step)
                remarks = (*found[name][0].info.remarks, *_check(found[name], store))
                notes += [(name, remark) for remark in remarks]
        except UNUSABLE as error:
            found.pop(name, None)
            skipped.append((name, str(error).removeprefix(f"{file}: ")))
        if progress:
            progress(index + 1, len(files))
    if not found:
        raise DataError(_nothing_usable(root, len(files), skipped))
    held = held_out({name: windows[0].digest for name, windows in found.items()}, root, holdout)
    windows = (_marked(window, held) for group in found.values() for window in group)
    return Scan(tuple(windows), tuple(skipped), tuple(notes))


def _files(root: Path, extensions: Sequence[str]) -> list[Path]:
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise DataError(f"{root}: no such folder")
    wanted = {extension.lower() for extension in extensions}
    every = (file for file in root.rglob("*") if has_suffix(file, wanted) and not file.is_dir())
    visible = [file for file in every if not any(part.startswith(".") for part in file.relative_to(root).parts)]
    if not visible:
        raise DataError(f"{root}: no file ends in {', '.join(extensions)}")
    return sorted(visible, key=lambda file: file.relative_to(root).as_posix())


def _windows(file: Path, name: str, store: WindowStore, step: Fraction) -> list[ClipWindow]:
    info, shape = probe(file), store.shape
    span = info.span(store.modalities)
    slack = 1 / (2 * shape.fps)
    room = span.stop + slack - span.start - shape.seconds
    if room < 0:
        have, need = float(span.stop - span.start), float(shape.seconds)
        raise DataError(f"{file}: only {have:.3f} s of {' and '.join(store.modalities)}, a window takes {need:.3f} s")
    digest = _digest(file)
    return [ClipWindow(name, digest, False, span.start + index * step, info) for index in range(int(room / step) + 1)]


def _digest(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from error


def _check(windows: Sequence[ClipWindow], store: WindowStore) -> Iterator[str]:
    """Decode all windows of a file; yield a remark where its audio is silent or its video still."""
    loudest, widest = 0, 0
    for first in range(0, len(windows), SEGMENT):
        for stored in store.load(windows[first : first + SEGMENT]):
            if "audio" in stored:
                loudest = max(loudest, int(stored["audio"].int().abs().max()))
            if "video" in stored:
                video = stored["video"].int()
                widest = max(widest, int((video.amax(1) - video.amin(1)).max()))
    if "audio" in store.modalities and loudest < SILENT * 32767:
        yield "silent"
    if "video" in store.modalities and widest < STILL:
        yield "the video does not move"


def _marked(window: ClipWindow, held: frozenset[str]) -> ClipWindow:
    return ClipWindow(window.name, window.digest, window.name in held, window.start, window.info)


def _nothing_usable(root: Path, count: int, skipped: Sequence[tuple[str, str]]) -> str:
    reasons = Counter(reason for _, reason in skipped).most_common(3)
    listed = "; ".join(f"{number}x {reason}" for reason, number in reasons)
    return f"{root}: none of {count} files is usable ({listed})"


def _fingerprint(windows: Sequence[ClipWindow], store: WindowStore) -> str:
    shape = {key: str(value) for key, value in asdict(store.shape).items()}
    rows = [(window.name, window.digest, window.heldout, str(window.start)) for window in windows]
    text = json.dumps([shape, store.modalities, rows], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
