"""Decoded video frames in presentation order: stamps corrected, all of one size, rotated upright."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from heapq import heappop, heappush
from typing import TypeVar, cast

import numpy as np
import torch
from av.container import InputContainer
from av.sidedata.sidedata import SideData
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from mmdisco_cli.data import breaks
from mmdisco_cli.data.probing import UNSHOWN, MediaInfo, video_stream
from mmdisco_cli.errors import DataError

LOOK_AHEAD = 16
"""Frames among which stamps are sorted: no codec reorders more."""
WITHOUT_INDEX = ("mpeg", "mpegts")
"""Formats in which a seek may end between keyframes; in "mpeg" stamps after a seek are also guessed differently."""
MOST_THREADS = 16
"""Threads that decode one stream; with more, ffmpeg warns."""
GENERATE_STAMPS = 1
"""AVFMT_FLAG_GENPTS."""
Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
Item = TypeVar("Item")


class MissedSeekError(Exception):
    """The frames after a seek cannot be identified: the stream has to be read from its beginning."""


@dataclass(frozen=True)
class Orientation:
    """How a stored frame is displayed: transposed or not, then rows or columns reversed or not."""

    swapped: bool = False
    reverse_rows: bool = False
    reverse_columns: bool = False

    def apply(self, pixels: Pixels) -> Pixels:
        """Return pixels (H, W) or (H, W, C) as displayed."""
        turned = pixels.swapaxes(0, 1) if self.swapped else pixels
        down, across = (-1 if reverse else 1 for reverse in (self.reverse_rows, self.reverse_columns))
        return turned[::down, ::across]


def orientation_of(frame: VideoFrame) -> Orientation:
    """Return the orientation of a frame's display matrix, to the nearest quarter turn, mirrored or not."""
    found = frame.side_data.get("DISPLAYMATRIX")
    if found is None:
        return Orientation()
    # The stored pixel (x, y) is displayed at (x', y'): x' = a x + c y, y' = b x + d y.
    a, b, _, c, d, *_ = struct.unpack("=9i", cast(SideData, found))
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return Orientation(False, d < 0, a < 0)
    return Orientation(True, b < 0, c < 0)


@dataclass(frozen=True)
class Decoded:
    """A frame as it left the decoder, and the (width, height) of the stream's first one, to which all are scaled.

    Frames of a stream share their `converter`: to set one up takes longer than to convert a frame.
    """

    frame: VideoFrame
    size: tuple[int, int]
    converter: VideoReformatter

    @property
    def orientation(self) -> Orientation:
        """Return the frame's orientation."""
        return orientation_of(self.frame)

    def upright(self, layout: str) -> Pixels:
        """Return its pixels (H, W, 3) in `layout`, rgb24 or bgr24, as displayed."""
        frame = self.frame
        if (frame.width, frame.height) != self.size:
            # Where the size changes within a stream, players keep that of its beginning.
            frame = frame.reformat(*self.size, format=layout, interpolation="BICUBIC")
        converted = self.converter.reformat(frame, format=layout, threads=1)
        return np.ascontiguousarray(self.orientation.apply(cast(Pixels, converted.to_ndarray())))


def timed_frames(
    container: InputContainer, info: MediaInfo, seek: Fraction | None = None
) -> Iterator[tuple[Fraction, Decoded]]:
    """Yield frames from the keyframe before `seek` on, with their times in seconds from the file's zero, rising.

    Frames leave the decoder in presentation order. Their stamps need not: AVI has none, and files made from one may
    number frames in the order in which they are stored. These stamps are sorted.

    Raises:
        DataError: there are no stamps, they go backwards by more than that explains, or a frame is corrupt.
        MissedSeekError: the seek landed after its time or on no frame, or where stamps or size cannot be trusted.
    """
    stream = video_stream(container)
    if stream is None or stream.time_base is None:
        return
    # By as many threads as torch may use: one where other processes read beside this one.
    stream.thread_type, stream.codec_context.thread_count = "AUTO", min(MOST_THREADS, torch.get_num_threads())
    # Presentation stamps that ffmpeg makes up are those of the next stored frame, which is wrong between B-frames.
    container.flags = container.flags & ~GENERATE_STAMPS
    if seek is not None and container.format.name in WITHOUT_INDEX:
        raise MissedSeekError
    if seek is not None:
        container.seek(int((seek + info.zero) / stream.time_base), stream=stream)
    stamped = _stamped(container, stream, info, sought=seek is not None)
    ordered = in_order(stamped if seek is None else _trusted(stamped, info, seek), lambda: _depth(stream))
    latest: Fraction | None = None
    for time, decoded in ordered:
        if latest is not None and time < latest:
            raise DataError(f"{info.path}: its time stamps go back from {float(latest):.2f} to {float(time):.2f} s")
        latest = time
        yield time, decoded


def _trusted(
    stamped: Iterable[tuple[Fraction, Decoded]], info: MediaInfo, seek: Fraction
) -> Iterator[tuple[Fraction, Decoded]]:
    """Yield the frames after a seek; raise MissedSeekError where stamps, hence the index, are disordered."""
    latest: Fraction | None = None
    for time, decoded in stamped:
        missed = time > seek if latest is None else time < latest
        if missed or decoded.size != (info.width, info.height):
            raise MissedSeekError
        latest = time
        yield time, decoded
    if latest is None:
        raise MissedSeekError


def _depth(stream: VideoStream) -> int:
    return LOOK_AHEAD if stream.codec_context.has_b_frames else 0


def _stamped(
    container: InputContainer, stream: VideoStream, info: MediaInfo, *, sought: bool
) -> Iterator[tuple[Fraction, Decoded]]:
    """Yield frames as they leave the decoder, each with its own stamp or the best guess."""
    latest, size, lag, converter = None, None, None, VideoReformatter()
    waits = container.format.name in UNSHOWN and bool(stream.codec_context.has_b_frames)
    if sought and waits:
        raise MissedSeekError
    for frame in breaks.decoded(container, stream, info.breaks):
        time = _stamp(frame, stream, info, latest)
        if time is None:
            raise MissedSeekError if sought else DataError(f"{info.path}: its frames have no time stamps")
        if frame.is_corrupt:
            raise DataError(f"{info.path}: corrupt frame at {float(time):.2f} s")
        latest = time if latest is None else max(latest, time)
        size = size or (frame.width, frame.height)
        if lag is None:
            # Stamped with when a decoder that waits for B-frames returned it: the first is shown where it is stored.
            lag = time - info.video.start if waits and info.video is not None else Fraction(0)
        yield time - lag, Decoded(frame, size, converter)


def _stamp(frame: VideoFrame, stream: VideoStream, info: MediaInfo, latest: Fraction | None) -> Fraction | None:
    """Return a frame's time: its presentation stamp, else its decoding stamp, else one frame after the last."""
    ticks = frame.pts if frame.pts is not None else frame.dts
    if ticks is not None and frame.time_base is not None:
        return ticks * frame.time_base - info.zero
    return latest + 1 / stream.average_rate if latest is not None and stream.average_rate else None


def in_order(stamped: Iterable[tuple[Fraction, Item]], depth: Callable[[], int]) -> Iterator[tuple[Fraction, Item]]:
    """Yield items in their order, each with the earliest unused stamp of itself and the next `depth` ones."""
    stamps: list[Fraction] = []
    held: deque[Item] = deque()
    try:
        for time, item in stamped:
            heappush(stamps, time)
            held.append(item)
            while len(held) > depth():
                yield heappop(stamps), held.popleft()
    except MissedSeekError:
        raise
    except Exception:
        # The frames before a fault are usable.
        while held:
            yield heappop(stamps), held.popleft()
        raise
    while held:
        yield heappop(stamps), held.popleft()
