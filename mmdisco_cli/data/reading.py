"""Read clips and pictures by their time stamps, never by counting frames."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

import numpy as np
import torch
from av.container import InputContainer
from av.video.frame import VideoFrame
from torch import Tensor
from torch.nn.functional import interpolate

from mmdisco_cli.data.breaks import decoded
from mmdisco_cli.data.probing import FAR, MediaInfo, Span, check_covered, opened, probe, video_stream
from mmdisco_cli.data.sound import read_audio
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
    """Read frames / fps seconds of picture and sound from `start` seconds after its zero; None: where both begin.

    The picture at time t is the last one stamped t or earlier, scaled to cover height x width and cropped about its
    centre. Sound lies where its stamps put it, gaps are silence. Raise DataError, naming the file, where it cannot be
    decoded, lacks a stream, or does not have both all through the window (half a video frame is let off at either end).
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
    """Read pictures alone, (3, T, H, W) in [-1, 1]; arguments and errors as for `read_clip`, `info` saves a probe."""
    info, rate = info or probe(path), as_fps(fps)
    begin = info.span(("video",)).start if start is None else Fraction(start)
    times = [begin + index / rate for index in range(frames)]
    check_covered(info, "video", Span(begin, begin + frames / rate), 1 / (2 * rate))
    return read_pictures(info, times, height, width).transpose(0, 1).float().div_(127.5).sub_(1)


class _MissedSeekError(Exception):
    """A seek landed after the time that was asked for."""


def read_pictures(info: MediaInfo, times: Sequence[Fraction], height: int, width: int) -> Tensor:
    """Return the picture shown at each of the rising `times` (seconds from the file's zero), uint8 (N, 3, H, W)."""
    return torch.stack([_fit(frame, info.pixel_aspect, height, width) for frame in _frames_at(info, times)])


def walk_pictures(info: MediaInfo) -> Iterator[tuple[Fraction, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]]:
    """Yield every picture of a file, upright, as (seconds from the file's zero, uint8 (H, W, 3) blue first).

    Raises:
        DataError: the file cannot be decoded to its end.
    """
    with opened(info.path) as container:
        for frame, time in _timed_frames(container, info, None):
            turns = round(frame.rotation / 90)
            yield time, np.ascontiguousarray(np.rot90(frame.to_ndarray(format="bgr24"), turns))


def _frames_at(info: MediaInfo, times: Sequence[Fraction]) -> Iterator[VideoFrame]:
    if times[0] > FAR and not info.breaks:
        with suppress(_MissedSeekError):
            yield from _walk(info, times, seek=True)
            return
    yield from _walk(info, times, seek=False)


def shown_at(info: MediaInfo, stamped: Iterable[tuple[Fraction, Shown]], times: Sequence[Fraction]) -> Iterator[Shown]:
    """Yield, for each of the rising times, the last picture stamped then or earlier, before the first of all that one.

    Raises:
        DataError: there is none, in the file that `info` is of.
    """
    shown: Shown | None = None
    done = 0
    for time, picture in stamped:
        while done < len(times) and time > times[done]:
            yield picture if shown is None else shown
            done += 1
        shown = picture
        if done == len(times):
            return
    if shown is None:
        raise DataError(f"{info.path}: no picture can be decoded")
    for _ in times[done:]:
        yield shown


def _walk(info: MediaInfo, times: Sequence[Fraction], *, seek: bool) -> Iterator[VideoFrame]:
    """Decode on and yield what is shown at each time."""
    with opened(info.path) as container:
        yield from shown_at(info, _due(container, info, times[0] if seek else None), times)


def _due(container: InputContainer, info: MediaInfo, seek: Fraction | None) -> Iterator[tuple[Fraction, VideoFrame]]:
    """Yield each frame with the earliest time that its stamp may mean."""
    first = True
    for frame, time in _timed_frames(container, info, seek):
        if seek is not None and first and time > seek:
            raise _MissedSeekError
        first = False
        yield time - _rounding(frame), frame


def _timed_frames(
    container: InputContainer, info: MediaInfo, seek: Fraction | None
) -> Iterator[tuple[VideoFrame, Fraction]]:
    stream = video_stream(container)
    if stream is None or stream.time_base is None:
        return
    stream.thread_type = "AUTO"
    if seek is not None:
        container.seek(int((seek + info.zero) / stream.time_base), stream=stream)
    for frame in decoded(container, stream, info.breaks):
        if frame.pts is None or frame.time_base is None:
            raise DataError(f"{info.path}: its pictures have no time stamps")
        time = frame.pts * frame.time_base - info.zero
        if frame.is_corrupt:
            raise DataError(f"{info.path}: corrupt picture at {float(time):.2f} s")
        yield frame, time


def _rounding(frame: VideoFrame) -> Fraction:
    """Return by how much a stamp may be late through rounding alone: half a tick (Matroska counts milliseconds)."""
    return min((frame.time_base or Fraction(0)) / 2, HALF_MILLISECOND)


def _fit(frame: VideoFrame, pixel_aspect: Fraction, height: int, width: int) -> Tensor:
    """Turn, crop about the centre and scale a frame to uint8 (3, height, width), antialiased, keeping its aspect."""
    turns = round(frame.rotation / 90)
    shown_aspect = 1 / pixel_aspect if turns % 2 else pixel_aspect
    picture = torch.from_numpy(np.rot90(frame.to_ndarray(format="rgb24"), turns).copy())
    picture = _centre_crop(picture.permute(2, 0, 1), Fraction(width, height) / shown_aspect)
    rows, columns = picture.shape[1:]
    if (rows, columns) == (height, width):
        return picture
    if rows % height == 0 and columns % width == 0:
        # Whole blocks of pixels: their mean undoes a nearest-neighbour enlargement exactly, where a filter would blur.
        return interpolate(picture[None].float(), (height, width), mode="area")[0].round().to(torch.uint8)
    return interpolate(picture[None], (height, width), mode="bilinear", antialias=True)[0]


def _centre_crop(picture: Tensor, aspect: Fraction) -> Tensor:
    rows, columns = picture.shape[1:]
    height = max(1, min(rows, round(columns / aspect)))
    width = max(1, min(columns, round(rows * aspect)))
    top, left = (rows - height) // 2, (columns - width) // 2
    return picture[:, top : top + height, left : left + width]
