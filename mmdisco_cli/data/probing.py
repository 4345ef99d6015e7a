"""Open media files safely, and find from their packets' time stamps what they cover."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.logging
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from mmdisco_cli.data.breaks import Break, Span, Stamp, find_breaks, shifts, typical_length
from mmdisco_cli.data.promises import refuse_truncated
from mmdisco_cli.data.source import Packed
from mmdisco_cli.errors import DataError

# Media only: ffmpeg would also open text files, and playlists that refer to other files or the network.
FORMATS = "mov,matroska,avi,gif,wav,mp3,flac,ogg,aac,mpegts,mpeg,flv,asf,aiff,w64,caf"
FAR = 5  # seconds into a file from which seeking beats decoding from the start
UNSHOWN = ("avi",)  # formats with decoding times of packets, but no presentation times


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What a file holds. Times count from the file's own zero: the start of its earliest stream, where players begin.

    `zero` is that instant in the container's time stamps. A span is None where the stream is missing. `pixel_aspect` is
    width over height of a stored pixel, `height` and `width` are those of a stored frame, 0 without video; `rate` is
    the frame rate that the container declares. Spans, and all that is read, are in corrected time, with `breaks`
    removed.
    """

    path: str | os.PathLike[str]
    zero: Fraction
    video: Span | None
    audio: Span | None
    pixel_aspect: Fraction = Fraction(1)
    height: int = 0
    width: int = 0
    rate: Fraction | None = None
    breaks: tuple[Break, ...] = ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """Return a line for the breaks in the file's time stamps, if any."""
        if not self.breaks:
            return ()
        first = min(self.breaks, key=lambda one: one.at)
        most = max(Counter(one.stream for one in self.breaks).values())
        others = f", the first of {most} breaks" if most > 1 else ""
        return (f"time stamps jump by {float(first.jump):+.2f} s at {float(first.at - self.zero):.2f} s{others}",)

    def span(self, modalities: Sequence[str] = ("audio", "video")) -> Span:
        """Return the stretch that all `modalities` cover; raise DataError where there is none."""
        spans = {"audio": self.audio, "video": self.video}
        missing = [name for name in modalities if spans[name] is None]
        if missing:
            raise DataError(f"{self.path}: no {' or '.join(missing)} stream that can be decoded")
        found = [span for name in modalities if (span := spans[name])]
        both = Span(max(s.start for s in found), min(s.stop for s in found))
        if both.stop <= both.start:
            raise DataError(f"{self.path}: {' and '.join(modalities)} share no time")
        return both


def probe(path: str | os.PathLike[str]) -> MediaInfo:
    """Read the time stamps of every packet, decoding nothing; raise DataError, naming the file, for an unusable one."""
    with opened(path) as container:
        video, audio = video_stream(container), audio_stream(container)
        streams = [stream for stream in (video, audio) if stream is not None]
        if not streams:
            raise DataError(f"{os.fspath(path)}: no audio or video stream that can be decoded")
        packets = _packets(container, streams)
        breaks = find_breaks({index: [packet.stamp for packet in found] for index, found in packets.items()})
        ordered = container.format.name in UNSHOWN
        spans = {stream.index: _span(stream, packets[stream.index], breaks, ordered) for stream in streams}
        first = {index: found[0].position or 0 for index, found in packets.items() if found}
        refuse_truncated(container, streams, spans, breaks, first)
        # The streams of a closed container must not be used: all that is needed of them is read here.
        video_span, audio_span = (spans.get(stream.index) if stream else None for stream in (video, audio))
        aspect = (video and video.sample_aspect_ratio) or Fraction(1)
        height, width = (video.height, video.width) if video else (0, 0)
        rate = video.average_rate if video else None
    zero = min((span.start for span in (video_span, audio_span) if span), default=Fraction(0))
    spans_from_zero = _moved(video_span, zero), _moved(audio_span, zero)
    where = path if isinstance(path, Packed) else os.fspath(path)
    return MediaInfo(where, zero, *spans_from_zero, aspect, height, width, rate, breaks)


def check_covered(info: MediaInfo, modality: str, window: Span, slack: Fraction) -> None:
    """Raise DataError where a stream is missing or does not cover `window`, give or take `slack` seconds."""
    span = info.span((modality,))
    if window.start < span.start - slack or window.stop > span.stop + slack:
        wanted, have = (f"{float(s.start):.3f}-{float(s.stop):.3f} s" for s in (window, span))
        raise DataError(f"{info.path}: {modality} covers {have}, not all of {wanted}")


@contextmanager
def opened(path: str | os.PathLike[str], *, quick: bool = False) -> Iterator[InputContainer]:
    """Open a media file, or a part of a file; every failure inside the block becomes a one-line DataError naming it.

    `quick` decodes no frame of video to learn more of it, which reading audio does not need.
    """
    name = os.fspath(path)
    if not isinstance(path, Packed) and Path(name).is_dir():
        raise DataError(f"{name}: is a directory, not a media file")
    # torchvision below 0.26 turns PyAV's log on. A decoding thread that logs waits for Python's lock, which whoever
    # closes the decoder holds while waiting for that thread: neither ever ends.
    av.logging.set_level(None)
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"} | ({"skip_frame": "all"} if quick else {})
    try:
        with (
            path.open() if isinstance(path, Packed) else nullcontext(f"file:{name}") as file,
            av.open(file, "r", options=options, metadata_errors="replace") as container,
        ):
            yield container
    except (av.FFmpegError, OSError, UnicodeError) as error:
        raise DataError(f"{name}: {_reason(error)}") from error


def video_stream(container: InputContainer) -> VideoStream | None:
    """Return the main video stream, without cover art and streams that cannot be decoded."""
    streams = [s for s in container.streams.video if s.codec_context and not s.disposition & Disposition.attached_pic]
    return streams[0] if streams else None


def audio_stream(container: InputContainer) -> AudioStream | None:
    """Return the default audio stream, or the first that can be decoded."""
    streams = [s for s in container.streams.audio if s.codec_context]
    chosen = [s for s in streams if s.disposition & Disposition.default]
    return next(iter(chosen or streams), None)


def _moved(span: Span | None, zero: Fraction) -> Span | None:
    return span and Span(span.start - zero, span.stop - zero)


def _reason(error: Exception) -> str:
    if isinstance(error, av.InvalidDataError):
        return "corrupt, cut short or no media file at all"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).splitlines() or [type(error).__name__])[0]


@dataclass(frozen=True)
class _Packet:
    """A packet's times in seconds; `shown` is None where it has only a decoding time."""

    stamp: Stamp
    shown: Fraction | None
    primes: bool
    position: int | None


def _packets(container: InputContainer, streams: Sequence[VideoStream | AudioStream]) -> dict[int, list[_Packet]]:
    """Return the stamped packets of each stream in the order of the file."""
    found: dict[int, list[_Packet]] = {stream.index: [] for stream in streams}
    numbers: Counter[int] = Counter()
    for packet in container.demux(*streams):
        time = packet.pts if packet.dts is None else packet.dts
        if time is not None:
            base, number = packet.time_base, numbers[packet.stream_index]
            stamp = Stamp(time * base, (packet.duration or 0) * base, number)
            shown = None if packet.pts is None else packet.pts * base
            # Discarded packets only prime the decoder: an edit list puts them before the start.
            found[packet.stream_index].append(_Packet(stamp, shown, packet.is_discard, packet.pos))
        numbers[packet.stream_index] += 1
    return found


def _span(
    stream: VideoStream | AudioStream, packets: Sequence[_Packet], breaks: Sequence[Break], ordered: bool
) -> Span | None:
    stamps = sorted(_shown(stream, packets, breaks, ordered))
    if not stamps:
        return None
    last, length = stamps[-1]
    if not length and len(stamps) > 1:
        length = last - stamps[-2][0]
    if not length and isinstance(stream, VideoStream) and stream.average_rate:
        length = 1 / stream.average_rate
    declared = (stream.start_time or 0) * _time_base(stream) if stream.start_time is not None else stamps[0][0]
    return Span(max(declared, stamps[0][0]), max(start + size for start, size in [*stamps, (last, length)]))


def _shown(
    stream: VideoStream | AudioStream, packets: Sequence[_Packet], breaks: Sequence[Break], ordered: bool
) -> Iterator[tuple[Fraction, Fraction]]:
    """Yield each packet's presentation time (decoding time where `ordered`), without breaks, and its duration."""
    if not packets:  # of a stream that its header announces and that never comes
        return
    late = dict(zip(range(packets[-1].stamp.number + 1), shifts(breaks, stream.index), strict=False))
    broken = {one.number for one in breaks if one.stream == stream.index}
    typical = typical_length([packet.stamp for packet in packets]) if broken else Fraction(0)
    for packet, after in zip(packets, [*packets[1:], None], strict=True):
        time, length, number = packet.stamp
        if packet.shown is not None and not ordered:
            time = packet.shown
        if after is not None and after.stamp.number in broken:
            length = min(length, typical)
        if not packet.primes:
            yield time - late[number], length


def _time_base(stream: VideoStream | AudioStream) -> Fraction:
    return stream.time_base or Fraction(1)
