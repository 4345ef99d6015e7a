"""Write one clip as .mp4 or .webm, its streams equally long, or audio as .wav; whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
import torch
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from mmdisco_cli.data.resampling import resample
from mmdisco_cli.data.writing.codecs import CODECS, Codecs, lacking
from mmdisco_cli.errors import DataError
from mmdisco_cli.run.files import replacing

BT709 = 1  # the same number for primaries, transfer and matrix (ITU-T H.273)
LIMITED_RANGE = 1
LAYOUTS = {1: "mono", 2: "stereo"}
KR, KB = 0.2126, 0.0722  # weights of red and blue in luma (ITU-R BT.709)


def as_fps(fps: float | Fraction) -> Fraction:
    """Return a frame rate as an exact ratio: 30000 / 1001 = 29.97002997... is recognised, 12.5 is 25/2."""
    ratio = Fraction(fps).limit_denominator(1001) if fps > 0 else Fraction(0)
    if ratio <= 0:
        raise DataError(f"a frame rate must be positive, not {fps}")
    return ratio


def write_clip(
    path: str | os.PathLike[str],
    video: Tensor,
    audio: Tensor | None,
    fps: float | Fraction,
    sample_rate: int,
    metadata: Mapping[str, str] | None = None,
    *,
    scale: int = 1,
) -> Path:
    """Write a clip as the ending of its name says: .webm as VP9 and Opus, any other as `write_mp4` does.

    Raises:
        DataError: as for `write_mp4`, or this PyAV lacks an encoder.
    """
    target = Path(path)
    form = "webm" if target.suffix.lower() == ".webm" else "mp4"
    return _write(target, form, video, audio, as_fps(fps), sample_rate, metadata or {}, scale)


def write_mp4(
    path: str | os.PathLike[str],
    video: Tensor,
    audio: Tensor | None,
    fps: float | Fraction,
    sample_rate: int,
    metadata: Mapping[str, str] | None = None,
    *,
    scale: int = 1,
) -> Path:
    """Write video (3, T, H, W) and audio (1 or 2, S), both in [-1, 1], as H.264 and AAC of equal length.

    Without audio the file has no audio stream.

    `scale` repeats every pixel; an even one also avoids the loss of colour resolution of 4:2:0. Odd sizes are padded by
    repeating the edge. Audio is cut or padded with silence to T / fps seconds, from which it may differ by 0.1 s.
    `metadata` is stored as JSON in the comment tag, its "title" as the title too. The same input gives the same bytes.

    Raises:
        DataError: the shapes do not fit, or the file cannot be written; then nothing is left behind.
    """
    return _write(Path(path), "mp4", video, audio, as_fps(fps), sample_rate, metadata or {}, scale)


def _write(
    target: Path, form: str, video: Tensor, audio: Tensor | None, rate: Fraction, sample_rate: int,
    metadata: Mapping[str, str], scale: int,
) -> Path:  # fmt: skip
    codecs, frames = CODECS[form], _rgb_frames(video, scale)
    seconds = Fraction(frames.shape[0]) / rate
    sound = None if audio is None else _waveform(audio, sample_rate, seconds, codecs.rates)
    if clause := lacking(form):
        raise DataError(f"{target}: cannot write ({clause})")
    with _muxing(target, form, codecs.muxing, metadata) as container:
        shown = cast(VideoStream, container.add_stream(codecs.video, rate=rate))
        played = cast(AudioStream, container.add_stream(codecs.audio, rate=sound[1])) if sound else None
        _set_up_video(shown, frames, codecs)
        packets: list[Packet[Any]] = []
        if sound and played:
            _set_up_audio(played, *sound, codecs)
            packets += _encode_audio(played, *sound, codecs.depth)
        packets = [*_encode_video(shown, frames, rate), *packets]
        for packet in sorted(packets, key=_decoding_time):
            container.mux(packet)
    return target


def write_wav(
    path: str | os.PathLike[str], audio: Tensor, sample_rate: int, metadata: Mapping[str, str] | None = None
) -> Path:
    """Write audio (C, S) in [-1, 1] as 16-bit PCM; `metadata` as for `write_mp4`.

    A sample x becomes round(32768 x), within what 16 bits hold, which every reader turns back into x to within 2^-16
    or, at 1 itself, 2^-15.

    Raises:
        DataError: the shape does not fit, or the file cannot be written; then nothing is left behind.
    """
    target = Path(path)
    if audio.ndim != 2 or 0 in audio.shape or sample_rate <= 0:
        raise DataError(f"audio to write must be (channels, S), not {tuple(audio.shape)} at {sample_rate} Hz")
    _require_finite(audio, "audio")
    whole = (audio.detach().cpu().double() * 32768).round().clamp(-32768, 32767).to(torch.int16)
    with _muxing(target, "wav", {}, metadata or {}) as container:
        stream = container.add_stream("pcm_s16le", rate=sample_rate)
        stream.layout = LAYOUTS.get(len(whole), f"{len(whole)}c")
        interleaved = whole.T.reshape(1, -1).contiguous().numpy()
        frame = av.AudioFrame.from_ndarray(interleaved, format="s16", layout=stream.layout)
        frame.sample_rate, frame.pts, frame.time_base = sample_rate, 0, Fraction(1, sample_rate)
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return target


@contextmanager
def _muxing(
    target: Path, form: str, options: Mapping[str, str], metadata: Mapping[str, str]
) -> Iterator[OutputContainer]:
    """Open a file to write, whole or not at all; bitexact omits the library version: bytes depend on media only."""
    try:
        with (
            replacing(target) as part,
            av.open(str(part), "w", format=form, options={**options, "fflags": "+bitexact"}) as container,
        ):
            container.metadata.update(_tags(metadata))
            yield container
    except av.FFmpegError as error:
        raise DataError(f"{target}: cannot write ({error.strerror or error})") from error


def _tags(metadata: Mapping[str, str]) -> dict[str, str]:
    tags = {"comment": json.dumps(dict(metadata), ensure_ascii=False, sort_keys=True)} if metadata else {}
    return tags | ({"title": metadata["title"]} if "title" in metadata else {})


def _rgb_frames(video: Tensor, scale: int) -> Tensor:
    """Turn (3, T, H, W) in [-1, 1] into RGB (T, 3, H', W') in [0, 1] with even sides."""
    if video.ndim != 4 or video.shape[0] != 3 or 0 in video.shape:
        raise DataError(f"a video to write must be (3, T, H, W), not {tuple(video.shape)}")
    if scale < 1:
        raise DataError(f"scale must be 1 or more, not {scale}")
    _require_finite(video, "video")
    rgb = video.detach().cpu().float().add(1).div(2).clamp(0, 1).transpose(0, 1)
    large = rgb.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    return pad(large, (0, large.shape[3] % 2, 0, large.shape[2] % 2), mode="replicate")


def _require_finite(media: Tensor, what: str) -> None:
    if not bool(torch.isfinite(media).all()):
        raise DataError(f"the {what} to write holds values that are not finite")


def _to_yuv420(rgb: Tensor) -> Tensor:
    """Turn RGB (3, H, W) in [0, 1] into limited-range BT.709, uint8 (3 H / 2, W) as PyAV lays out yuv420p.

    Whole 2 x 2 means, rounded to nearest: libswscale's defaults cost about 2 dB on flat colours.
    """
    red, green, blue = rgb
    luma = KR * red + (1 - KR - KB) * green + KB * blue
    chroma = torch.stack([(blue - luma) / (2 - 2 * KB), (red - luma) / (2 - 2 * KR)])
    small = avg_pool2d(chroma, 2).mul(224).add(128).reshape(-1, rgb.shape[2])
    return torch.cat([luma.mul(219).add(16), small]).round().clamp(0, 255).to(torch.uint8)


def _waveform(audio: Tensor, sample_rate: int, seconds: Fraction, rates: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """Turn (C, S) into float32 (C, S') of exactly `seconds`, at its own rate if it is among `rates`, else 48 kHz."""
    if audio.ndim != 2 or audio.shape[0] not in (1, 2) or sample_rate <= 0:
        raise DataError(f"audio to write must be (1 or 2, S), not {tuple(audio.shape)} at {sample_rate} Hz")
    _require_finite(audio, "audio")
    if abs(Fraction(audio.shape[1], sample_rate) - seconds) > Fraction(1, 10):
        raise DataError(f"audio of {audio.shape[1] / sample_rate:.3f} s does not fit a video of {float(seconds):.3f} s")
    hertz = sample_rate if sample_rate in rates else 48000
    wave = resample(audio.detach().cpu().float(), sample_rate, hertz).clamp(-1, 1)
    samples = round(seconds * hertz)
    return pad(wave[:, :samples], (0, max(0, samples - wave.shape[1]))).numpy(), hertz


def _set_up_video(stream: VideoStream, frames: Tensor, codecs: Codecs) -> None:
    stream.height, stream.width = frames.shape[2:]
    stream.pix_fmt = "yuv420p"
    stream.options = dict(codecs.quality)
    context = stream.codec_context
    context.color_primaries = context.color_trc = context.colorspace = BT709
    context.color_range = LIMITED_RANGE


def _set_up_audio(stream: AudioStream, wave: np.ndarray, hertz: int, codecs: Codecs) -> None:
    stream.layout = _layout(wave)
    stream.bit_rate = min(6 * hertz, codecs.most) * wave.shape[0]


def _layout(wave: np.ndarray) -> str:
    return LAYOUTS[wave.shape[0]]


def _encode_video(stream: VideoStream, frames: Tensor, rate: Fraction) -> Iterator[Packet[Any]]:
    for index, rgb in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(_to_yuv420(rgb).numpy(), format="yuv420p")
        frame.colorspace, frame.color_range = BT709, LIMITED_RANGE
        frame.pts, frame.time_base = index, 1 / rate
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _encode_audio(stream: AudioStream, wave: np.ndarray, hertz: int, depth: str) -> Iterator[Packet[Any]]:
    laid = wave if depth == "fltp" else wave.T.reshape(1, -1)  # planes, or interleaved
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(laid), format=depth, layout=_layout(wave))
    frame.sample_rate, frame.pts, frame.time_base = hertz, 0, Fraction(1, hertz)
    yield from stream.encode(frame)
    yield from stream.encode(None)


def _decoding_time(packet: Packet[Any]) -> Fraction:
    return (packet.dts or 0) * packet.time_base
