"""Read audio by its time stamps: gaps become silence, a codec's padding is removed, layout and rate are converted."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil, gcd

import numpy as np
import torch
from av.audio.frame import AudioFrame
from av.container import InputContainer
from torch import Tensor

from mmdisco_cli.data.breaks import Span, decoded
from mmdisco_cli.data.playing import NEAR, Piece, played
from mmdisco_cli.data.probing import FAR, MediaInfo, audio_stream, check_covered, opened, probe
from mmdisco_cli.data.resampling import resample
from mmdisco_cli.errors import DataError

RUN_UP = Fraction(1)  # seconds decoded before a window after a seek: codecs carry state from packet to packet
MARGIN = Fraction(1, 20)  # seconds around a window that the resampling filter may see
ROUNDING = Fraction(1, 1000)  # seconds by which the first frame may be stamped after its stream's start by rounding
SURROUND = 0.5**0.5  # -3 dB for all channels but front left and front right (ITU-R BS.775)


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
    """Read audio only, (channels, round(seconds * sample_rate)) in [-1, 1]; errors as for `read_clip`.

    Up to `slack` seconds may be missing at either end, and become silence.
    """
    info = info or probe(path)
    begin = info.span(("audio",)).start if start is None else Fraction(start)
    window = Span(begin, begin + Fraction(seconds))
    check_covered(info, "audio", window, slack)  # before anything is decoded
    return _decode(info, window, channels).window(window, sample_rate, slack)


@dataclass(frozen=True)
class DecodedAudio:
    """Decoded audio frames of a file with their time stamps, all of `channels` at `rate`."""

    info: MediaInfo
    pieces: Sequence[Piece]
    rate: int
    channels: int

    def whole(self) -> Tensor:
        """Return all of it, (channels, S), at its own rate: see `read_whole_audio`."""
        span = self.info.span(("audio",))
        wave, lead = _placed(self, span, 1)
        first = round(lead * self.rate)
        return wave[:, first : first + round((span.stop - span.start) * self.rate)]

    def window(self, window: Span, sample_rate: int, slack: Fraction = MARGIN) -> Tensor:
        """Return a window, (channels, S) in [-1, 1], with silence where there is none.

        Raises:
            DataError: the stream does not cover the window, give or take `slack` seconds.
        """
        check_covered(self.info, "audio", window, slack)
        wave, lead = _placed(self, window, sample_rate)
        first, samples = round(lead * sample_rate), round((window.stop - window.start) * sample_rate)
        found = resample(wave, self.rate, sample_rate)[:, first : first + samples].clamp(-1, 1)
        return torch.nn.functional.pad(found, (0, samples - found.shape[1]))


def decode_audio(info: MediaInfo, channels: int = 1) -> DecodedAudio:
    """Decode all audio of a file once, for `whole` and for any `window`; raise DataError where there is none."""
    return _decode(info, info.span(("audio",)), channels)


def read_whole_audio(info: MediaInfo, *, left: bool = False) -> tuple[Tensor, int]:
    """Return all audio of a file in mono at its own rate, (S,), without the codec's padding, and that rate in Hz.

    It ends with the last decoded sample, even where stamps declare more: added silence would be a click where the audio
    breaks off. `left` takes the left channel of a stereo downmix instead of the mean of both.

    Raises:
        DataError: no audio can be decoded.
    """
    sound = decode_audio(info, 2 if left else 1)
    return sound.whole()[0], sound.rate


def _decode(info: MediaInfo, window: Span, channels: int) -> DecodedAudio:
    """Decode at least the audio of a window."""
    # Stamps that jump lead a seek anywhere.
    far = window.start > FAR and not info.breaks
    found = _gather(info, window, channels, seek=True) if far else None
    found = found or _gather(info, window, channels, seek=False)
    if found is None:
        raise DataError(f"{info.path}: no audio can be decoded")
    return DecodedAudio(info, *found, channels)


def _placed(sound: DecodedAudio, window: Span, target: int) -> tuple[Tensor, Fraction]:
    """Return a window with a margin on either side, (channels, S') at the file's rate, and the first margin in seconds.

    It is shorter where the audio ends.

    Raises:
        DataError: it holds values that are not finite, as files of floating-point numbers may.
    """
    native, span = sound.rate, sound.info.span(("audio",))
    lead = _lead(native, target)
    origin = window.start - lead
    late = sound.pieces[0].time - span.start
    late = late if 0 < late < ROUNDING else Fraction(0)
    placed = [(round((piece.time - late - origin) * native), piece.wave) for piece in played(sound.pieces, native)]
    # Codecs pad their last block: what lies past the stream's own end was never part of the audio.
    stop = min(window.stop + MARGIN, span.stop)
    end = min(ceil((stop - origin) * native), max(begin + wave.shape[1] for begin, wave in placed))
    canvas = torch.zeros(sound.channels, max(0, end))
    for begin, wave in placed:
        _place(canvas, wave, begin)
    if not bool(canvas.isfinite().all()):
        raise DataError(f"{sound.info.path}: holds audio that is not finite")
    return canvas, lead


def _gather(info: MediaInfo, window: Span, channels: int, *, seek: bool) -> tuple[list[Piece], int] | None:
    """Return the frames from RUN_UP before a window to a few after it, and their sample rate."""
    pieces: list[Piece] = []
    native = after = 0
    first, last = window.start - RUN_UP, window.stop + MARGIN
    with opened(info.path, quick=True) as container:
        for frame, stamp in _timed_audio(container, info, first + info.zero if seek else None):
            time = stamp - info.zero
            if seek and not native and time > window.start - RUN_UP / 2:
                return None
            native = native or frame.sample_rate
            if frame.sample_rate != native:
                raise DataError(f"{info.path}: the sample rate changes within the file")
            if time >= first or time + Fraction(frame.samples, native) >= first:
                pieces.append(Piece(time, _mix(frame, channels)))
            after += time > last
            if after > NEAR:
                break
    return (pieces, native) if pieces else None


def _lead(native: int, target: int) -> Fraction:
    """Return a margin of at least MARGIN seconds that is a whole number of samples at both rates."""
    common = gcd(native, target)
    return Fraction(ceil(MARGIN * common), common)


def _timed_audio(
    container: InputContainer, info: MediaInfo, seek: Fraction | None
) -> Iterator[tuple[AudioFrame, Fraction]]:
    """Yield frames with their stamps in seconds; a frame without one starts where the one before ends."""
    stream = audio_stream(container)
    if stream is None or stream.time_base is None:
        return
    if seek is not None:
        container.seek(int(seek / stream.time_base), stream=stream)
    before: tuple[Fraction, AudioFrame] | None = None
    for frame in decoded(container, stream, info.breaks):
        stamp = _end(before) if frame.pts is None else frame.pts * (frame.time_base or stream.time_base)
        yield frame, stamp
        before = stamp, frame


def _end(timed: tuple[Fraction, AudioFrame] | None) -> Fraction:
    return timed[0] + Fraction(timed[1].samples, timed[1].sample_rate) if timed else Fraction(0)


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
    return _downmix(tuple(channel.name for channel in frame.layout.channels), wave.shape[0], channels) @ wave


def _as_float(frame: AudioFrame) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(frame.samples, -1).T
    if samples.dtype.kind == "f":
        return np.ascontiguousarray(samples, dtype=np.float32)
    full = 2.0 ** (8 * samples.dtype.itemsize - 1)
    centre = full if samples.dtype.kind == "u" else 0.0
    return ((samples.astype(np.float64) - centre) / full).astype(np.float32)


@lru_cache(maxsize=64)
def _downmix(names: tuple[str, ...], count: int, channels: int) -> Tensor:
    """Return weights (1 or 2, count) to left and right or to their mean, without the subwoofer.

    Those of a side sum to 1, so that nothing clips.
    """
    names = names if len(names) == count else ("",) * count
    left, right = torch.zeros(count), torch.zeros(count)
    for index, name in enumerate(names):
        level = 0.0 if name.startswith("LFE") else 1.0 if name in ("FL", "FR") else SURROUND
        left[index] = 0.0 if name.endswith("R") else level
        right[index] = 0.0 if name.endswith("L") else level
    stereo = torch.stack([side / side.sum().clamp(min=1e-9) for side in (left, right)])
    return stereo if channels == 2 else stereo.mean(0, keepdim=True)
