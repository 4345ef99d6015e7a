"""Read windows of picture and sound by their time stamps, never by counting frames."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, gcd

import numpy as np
import torch
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.video.frame import VideoFrame
from torch import Tensor
from torch.nn.functional import interpolate

from mmdisco_cli.data.probing import MediaInfo, Span, audio_stream, opened, probe, video_stream
from mmdisco_cli.data.resampling import resample
from mmdisco_cli.data.writing import as_fps
from mmdisco_cli.errors import DataError

FAR = 5  # seconds into a file from which seeking beats decoding from the start
RUN_UP = Fraction(1)  # seconds of sound decoded before a window after a seek: codecs carry state from packet to packet
MARGIN = Fraction(1, 20)  # seconds around a window that the resampling filter may see
HALF_MILLISECOND = Fraction(1, 2000)
SURROUND = 0.5**0.5  # -3 dB for what is neither front left nor front right (ITU-R BS.775)


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
    _check_covered(info, "video", Span(begin, begin + frames / rate), 1 / (2 * rate))
    return read_pictures(info, times, height, width).transpose(0, 1).float().div_(127.5).sub_(1)


def read_audio(
    path: str | os.PathLike[str],
    start: float | Fraction | None,
    seconds: float | Fraction,
    sample_rate: int,
    channels: int = 1,
    *,
    info: MediaInfo | None = None,
    slack: Fraction = MARGIN,
) -> Tensor:
    """Read sound alone, (channels, round(seconds * sample_rate)) in [-1, 1]; errors as for `read_clip`.

    Up to `slack` seconds may be missing at either end and are silence.
    """
    info = info or probe(path)
    begin = info.span(("audio",)).start if start is None else Fraction(start)
    window = Span(begin, begin + Fraction(seconds))
    _check_covered(info, "audio", window, slack)
    wave, native, lead = _native_sound(info, window, sample_rate, channels)
    first, samples = round(lead * sample_rate), round(Fraction(seconds) * sample_rate)
    return resample(wave, native, sample_rate)[:, first : first + samples].clamp(-1, 1)


def _check_covered(info: MediaInfo, modality: str, window: Span, slack: Fraction) -> None:
    span = info.span((modality,))
    if window.start < span.start - slack or window.stop > span.stop + slack:
        asked, have = (f"{float(s.start):.3f}-{float(s.stop):.3f} s" for s in (window, span))
        raise DataError(f"{info.path}: {modality} covers {have}, not all of {asked}")


# --- pictures


class _MissedSeekError(Exception):
    """A seek landed after the time that was asked for."""


def read_pictures(info: MediaInfo, times: Sequence[Fraction], height: int, width: int) -> Tensor:
    """Return the picture shown at each of the rising `times` (seconds from the file's zero), uint8 (N, 3, H, W)."""
    return torch.stack([_fit(frame, info.pixel_aspect, height, width) for frame in _frames_at(info, times)])


def _frames_at(info: MediaInfo, times: Sequence[Fraction]) -> Iterator[VideoFrame]:
    if times[0] > FAR:
        with suppress(_MissedSeekError):
            yield from _walk(info, times, seek=True)
            return
    yield from _walk(info, times, seek=False)


def _walk(info: MediaInfo, times: Sequence[Fraction], *, seek: bool) -> Iterator[VideoFrame]:
    """Decode on and yield, for each time, the last frame stamped then or earlier."""
    shown: VideoFrame | None = None
    done = 0
    with opened(info.path) as container:
        for frame, time in _timed_frames(container, info, times[0] if seek else None):
            if seek and shown is None and time > times[0]:
                raise _MissedSeekError
            while done < len(times) and time > times[done] + _rounding(frame):
                # Before the very first frame (within the slack) there is none to show but that one.
                yield shown or frame
                done += 1
            shown = frame
            if done == len(times):
                return
    if shown is None:
        raise DataError(f"{info.path}: no picture can be decoded")
    for _ in times[done:]:
        yield shown


def _timed_frames(
    container: InputContainer, info: MediaInfo, seek: Fraction | None
) -> Iterator[tuple[VideoFrame, Fraction]]:
    stream = video_stream(container)
    if stream is None or stream.time_base is None:
        return
    stream.thread_type = "AUTO"
    if seek is not None:
        container.seek(int((seek + info.zero) / stream.time_base), stream=stream)
    for frame in container.decode(stream):
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


# --- sound


def _native_sound(info: MediaInfo, window: Span, target: int, channels: int) -> tuple[Tensor, int, Fraction]:
    """Return the window and a margin, (channels, S') at the file's rate; that rate; the seconds before the window."""
    found = _gather(info, window, target, channels, seek=True) if window.start > FAR else None
    found = found or _gather(info, window, target, channels, seek=False)
    if found is None:
        raise DataError(f"{info.path}: no sound can be decoded")
    return found


def _gather(
    info: MediaInfo, window: Span, target: int, channels: int, *, seek: bool
) -> tuple[Tensor, int, Fraction] | None:
    canvas: Tensor | None = None
    with opened(info.path) as container:
        for frame, time in _timed_sound(container, window.start + info.zero - RUN_UP if seek else None):
            time -= info.zero
            if canvas is None:
                if seek and time > window.start - RUN_UP / 2:
                    return None
                native, lead = frame.sample_rate, _lead(frame.sample_rate, target)
                origin = window.start - lead
                canvas = torch.zeros(channels, ceil((window.stop + MARGIN - origin) * native))
            if frame.sample_rate != native:
                raise DataError(f"{info.path}: the sample rate changes within the file")
            _place(canvas, _mix(frame, channels), round((time - origin) * native))
            if time > window.stop + MARGIN:
                break
    if canvas is None:
        return None
    # Codecs pad their last block: what lies past the stream's own end was never part of the sound.
    canvas[:, max(0, round((info.span(("audio",)).stop - origin) * native)) :] = 0
    return canvas, native, lead


def _lead(native: int, target: int) -> Fraction:
    """Return a margin of at least MARGIN seconds that is a whole number of samples at both rates."""
    common = gcd(native, target)
    return Fraction(ceil(MARGIN * common), common)


def _timed_sound(container: InputContainer, seek: Fraction | None) -> Iterator[tuple[AudioFrame, Fraction]]:
    """Yield frames with their times; stamps that differ from gapless play by rounding alone are read as gapless."""
    stream = audio_stream(container)
    if stream is None or stream.time_base is None:
        return
    if seek is not None:
        container.seek(int(seek / stream.time_base), stream=stream)
    expected: Fraction | None = None
    for frame in container.decode(stream):
        base = frame.time_base or stream.time_base
        stamp = frame.pts * base if frame.pts is not None else expected or Fraction(0)
        if expected is None or abs(stamp - expected) > base * 3 / 2 + Fraction(1, frame.sample_rate):
            expected = stamp
        yield frame, expected
        expected += Fraction(frame.samples, frame.sample_rate)


def _place(canvas: Tensor, wave: Tensor, position: int) -> None:
    begin, end = max(0, position), min(canvas.shape[1], position + wave.shape[1])
    if begin < end:
        canvas[:, begin:end] = wave[:, begin - position : end - position]


def _mix(frame: AudioFrame, channels: int) -> Tensor:
    """Return a frame's samples as float32 (channels, S): mono is repeated, more channels are mixed down."""
    wave = torch.from_numpy(_as_float(frame))
    if wave.shape[0] == channels:
        return wave
    if wave.shape[0] == 1:
        return wave.expand(channels, -1)
    stereo = _downmix([channel.name for channel in frame.layout.channels], wave.shape[0])
    return (stereo if channels == 2 else stereo.mean(0, keepdim=True)) @ wave


def _as_float(frame: AudioFrame) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(frame.samples, -1).T
    if samples.dtype.kind == "f":
        return np.ascontiguousarray(samples, dtype=np.float32)
    full = 2.0 ** (8 * samples.dtype.itemsize - 1)
    centre = full if samples.dtype.kind == "u" else 0.0
    return ((samples.astype(np.float64) - centre) / full).astype(np.float32)


def _downmix(names: Sequence[str], count: int) -> Tensor:
    """Return weights (2, count) to left and right, each summing to 1 so that nothing clips; without the subwoofer."""
    names = names if len(names) == count else [""] * count
    left, right = torch.zeros(count), torch.zeros(count)
    for index, name in enumerate(names):
        level = 0.0 if name.startswith("LFE") else 1.0 if name in ("FL", "FR") else SURROUND
        left[index] = 0.0 if name.endswith("R") else level
        right[index] = 0.0 if name.endswith("L") else level
    return torch.stack([side / side.sum().clamp(min=1e-9) for side in (left, right)])
