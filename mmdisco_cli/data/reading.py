"""Read clips and frames by their time stamps, never by counting frames."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Generic, TypeVar

from av.video.frame import VideoFrame
from torch import Tensor

from mmdisco_cli.data.audio import read_audio
from mmdisco_cli.data.breaks import Span
from mmdisco_cli.data.fitting import Fitted
from mmdisco_cli.data.frames import Decoded, MissedSeekError, Pixels, timed_frames
from mmdisco_cli.data.probing import FAR, MediaInfo, check_covered, opened, probe
from mmdisco_cli.data.writing import as_fps
from mmdisco_cli.errors import DataError

HALF_MILLISECOND = Fraction(1, 2000)
Shown = TypeVar("Shown")


@dataclass(frozen=True)
class Clip:
    """One window of a file: video (3, T, H, W) and audio (C, S), float32 in [-1, 1], both from `start` seconds on."""

    video: Tensor
    audio: Tensor
    fps: Fraction
    sample_rate: int
    start: float


def read_clip(
    path: str | os.PathLike[str],
    start: float | Fraction | None,
    frames: int,
    fps: float | Fraction,
    height: int,
    width: int,
    sample_rate: int,
    channels: int = 1,
) -> Clip:
    """Read frames / fps seconds of video and audio from `start` seconds after the file's zero; None: where both begin.

    The frame at time t is the last one stamped t or earlier, scaled to cover height x width and cropped about its
    centre. Audio is placed by its stamps, gaps are silence.

    Raises:
        DataError: the file cannot be decoded, lacks a stream, or does not have both through the whole window (up to
            half a video frame may be missing at either end).
    """
    info, rate = probe(path), as_fps(fps)
    begin = info.span().start if start is None else Fraction(start)
    video = read_video(path, begin, frames, rate, height, width, info=info)
    audio = read_audio(path, begin, frames / rate, sample_rate, channels, info=info, slack=1 / (2 * rate))
    return Clip(video, audio, rate, sample_rate, float(begin))


def read_video(
    path: str | os.PathLike[str],
    start: float | Fraction | None,
    frames: int,
    fps: float | Fraction,
    height: int,
    width: int,
    *,
    info: MediaInfo | None = None,
) -> Tensor:
    """Read video only, (3, T, H, W) in [-1, 1]; arguments and errors as for `read_clip`, `info` saves a probe."""
    info, rate = info or probe(path), as_fps(fps)
    begin = info.span(("video",)).start if start is None else Fraction(start)
    return _as_video(read_frames(info, _window_times(info, begin, frames, rate), height, width))


class WindowFrames:
    """The frames of a window, kept while all frames of a file pass: what `read_video` gives, without decoding again."""

    def __init__(self, info: MediaInfo, frames: int, fps: Fraction, height: int, width: int) -> None:
        """Prepare for a window from where both streams have begun on; raise DataError where video does not cover it."""
        self._info, self._kept = info, Fitted(info, frames, height, width)
        self._wanted: FramesAt[Decoded] = FramesAt(_window_times(info, info.span().start, frames, fps))

    def walk(self) -> Iterator[tuple[Fraction, Pixels]]:
        """Yield every frame as `walk_frames` does."""
        for time, decoded in _walk(self._info):
            self._kept.add(self._wanted.take(time - _rounding(decoded.frame), decoded))
            yield time, decoded.upright("bgr24")

    def video(self) -> Tensor:
        """Return the window (3, T, H, W) in [-1, 1] once all frames have passed; raise DataError for a file without."""
        self._kept.add(self._wanted.rest(self._info.path))
        return _as_video(self._kept.frames)


def _window_times(info: MediaInfo, begin: Fraction, frames: int, fps: Fraction) -> list[Fraction]:
    """Return when each of a window's frames is shown; raise DataError where the video does not cover them."""
    check_covered(info, "video", Span(begin, begin + frames / fps), 1 / (2 * fps))
    return [begin + index / fps for index in range(frames)]


def _as_video(frames: Tensor) -> Tensor:
    """Return uint8 (T, 3, H, W) as (3, T, H, W) in [-1, 1]."""
    return frames.transpose(0, 1).float().div_(127.5).sub_(1)


def read_frames(info: MediaInfo, times: Sequence[Fraction], height: int, width: int) -> Tensor:
    """Return the frame shown at each of the rising `times` (seconds from the file's zero), uint8 (N, 3, H, W)."""
    if times[0] > FAR and not info.breaks:
        with suppress(MissedSeekError):
            return _read(info, times, height, width, seek=True)
    return _read(info, times, height, width, seek=False)


def walk_frames(info: MediaInfo) -> Iterator[tuple[Fraction, Pixels]]:
    """Yield every frame of a file, upright, as (seconds from the file's zero, uint8 (H, W, 3) in BGR order).

    Raises:
        DataError: the file cannot be decoded to its end.
    """
    for time, decoded in _walk(info):
        yield time, decoded.upright("bgr24")


def _walk(info: MediaInfo) -> Iterator[tuple[Fraction, Decoded]]:
    with opened(info.path) as container:
        yield from timed_frames(container, info)


class FramesAt(Generic[Shown]):
    """Picks from frames that pass in order what is shown at each of the rising `times`.

    That is the last frame stamped then or earlier, before the first of all that one.
    """

    def __init__(self, times: Sequence[Fraction]) -> None:
        self.left = list(reversed(times))
        self.shown: Shown | None = None

    def take(self, time: Fraction, frame: Shown) -> Iterator[Shown]:
        """Take in the next frame; yield what is shown at the times before it, once for each of them."""
        while self.left and time > self.left[-1]:
            self.left.pop()
            yield frame if self.shown is None else self.shown
        self.shown = frame

    def rest(self, path: object) -> Iterator[Shown]:
        """Yield what is shown at the times that are left; raise DataError, naming the file, where no frame passed."""
        if self.shown is None:
            raise DataError(f"{path}: no video frame can be decoded")
        while self.left:
            self.left.pop()
            yield self.shown


def shown_at(info: MediaInfo, stamped: Iterable[tuple[Fraction, Shown]], times: Sequence[Fraction]) -> Iterator[Shown]:
    """Yield what is shown at each of the rising times and read no further; raise DataError where there is no frame."""
    wanted: FramesAt[Shown] = FramesAt(times)
    for time, frame in stamped:
        yield from wanted.take(time, frame)
        if not wanted.left:
            return
    yield from wanted.rest(info.path)


def _read(info: MediaInfo, times: Sequence[Fraction], height: int, width: int, *, seek: bool) -> Tensor:
    """Decode from one time on, and return the frame shown at each time."""
    kept = Fitted(info, len(times), height, width)
    with opened(info.path) as container:
        found = timed_frames(container, info, times[0] if seek else None)
        # The earliest time that a stamp may mean.
        due = ((time - _rounding(decoded.frame), decoded) for time, decoded in found)
        kept.add(shown_at(info, due, times))
    return kept.frames


def _rounding(frame: VideoFrame) -> Fraction:
    """Return how late a stamp may be by rounding: half a tick of the time base (Matroska counts milliseconds)."""
    return min((frame.time_base or Fraction(0)) / 2, HALF_MILLISECOND)
