"""Decode the windows of a file in one pass, and cache them in compact form in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmdisco_cli.data.media import MediaInfo, read_audio, read_frames

if TYPE_CHECKING:
    from mmdisco_cli.data.index.rows import Row

Stored = dict[str, Tensor]  # "video" uint8 (3, T, H, W), "audio" int16 (C, S)


@dataclass(frozen=True)
class Shape:
    """The size of a window: frames / fps seconds of video (3, frames, height, width) and of audio."""

    frames: int
    fps: Fraction
    height: int
    width: int
    sample_rate: int
    channels: int = 1

    @property
    def seconds(self) -> Fraction:
        """Return the length of a window in seconds."""
        return self.frames / self.fps

    @property
    def samples(self) -> int:
        """Return the number of audio samples of a window."""
        return round(self.seconds * self.sample_rate)


@dataclass(frozen=True, slots=True)
class ClipWindow:
    """One window: `start` seconds after the zero of the file that `info` describes.

    `audio` describes another file where the audio lies in one, and `row` is what the data set's index says of the clip.
    """

    name: str
    digest: str
    heldout: bool
    start: Fraction
    info: MediaInfo = field(repr=False)
    audio: MediaInfo | None = field(default=None, repr=False)
    row: Row | None = field(default=None, repr=False)

    @property
    def place(self) -> tuple[object, ...]:
        """Return what distinguishes the media of windows."""
        return self.info.path, self.audio and self.audio.path, self.start


class WindowStore:
    """Decode windows and keep as many of them as fit into `budget` bytes.

    Nothing is evicted: with random access a cache that only fills up has as many hits as any other.
    """

    def __init__(self, shape: Shape, modalities: Sequence[str], budget: int) -> None:
        self.shape, self.modalities, self.budget = shape, tuple(modalities), budget
        self._kept: dict[tuple[object, ...], Stored] = {}

    def __getstate__(self) -> dict[str, object]:
        """Leave what is kept behind: another process that reads each window once needs no memory for it."""
        return {**self.__dict__, "budget": 0, "_kept": {}}

    def load(self, windows: Sequence[ClipWindow]) -> list[Stored]:
        """Decode windows of one file, rising in time, in one pass, and keep what fits."""
        loaded = _decode(windows, self.shape, self.modalities)
        for window, stored in zip(windows, loaded, strict=True):
            size = sum(tensor.nbytes for tensor in stored.values())
            if size <= self.budget:
                self._kept[window.place] = stored
                self.budget -= size
        return loaded

    def get(self, window: ClipWindow) -> Stored:
        """Return one window, from memory or else from its file."""
        return self._kept.get(window.place) or self.load([window])[0]


def _decode(windows: Sequence[ClipWindow], shape: Shape, modalities: Sequence[str]) -> list[Stored]:
    stored: list[Stored] = [{} for _ in windows]
    if "video" in modalities:
        for item, video in zip(stored, _videos(windows, shape), strict=True):
            item["video"] = video
    if "audio" in modalities:
        for item, audio in zip(stored, _audios(windows, shape), strict=True):
            item["audio"] = audio
    return stored


def _videos(windows: Sequence[ClipWindow], shape: Shape) -> Iterator[Tensor]:
    wanted = [[window.start + index / shape.fps for index in range(shape.frames)] for window in windows]
    times = sorted({time for row in wanted for time in row})
    video = read_frames(windows[0].info, times, shape.height, shape.width).transpose(0, 1)
    place = {time: index for index, time in enumerate(times)}
    for row in wanted:
        yield video if row == times else video[:, [place[time] for time in row]]


def _audios(windows: Sequence[ClipWindow], shape: Shape) -> Iterator[Tensor]:
    first, last = windows[0].start, windows[-1].start
    slack, seconds = 1 / (2 * shape.fps), last - first + shape.seconds
    info = windows[0].audio or windows[0].info
    audio = read_audio(info.path, first, seconds, shape.sample_rate, shape.channels, info=info, slack=slack)
    for window in windows:
        begin = round((window.start - first) * shape.sample_rate)
        piece = torch.nn.functional.pad(audio[:, begin : begin + shape.samples], (0, 1))[:, : shape.samples]
        yield piece.mul(32767).round().to(torch.int16)
