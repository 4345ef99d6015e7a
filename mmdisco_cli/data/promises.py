"""Detect truncated files: those shorter than their header declares, for formats whose headers are exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from mmdisco_cli.data.breaks import Break, Span
from mmdisco_cli.errors import DataError

CUT_SHORT = Fraction(1, 2)  # seconds that may be missing at the end of the declared duration
COUNTED = ("mov", "avi", "mp3", "flac", "w64", "aiff", "caf")  # formats whose headers hold an exact duration
ESTIMATED = Fraction(1, 1000)  # seconds within which a duration equals bytes / first bit rate, an estimate
UNCOUNTED = 1 << 30  # frames or samples in the header of a writer that could not seek back to fill them in


def refuse_truncated(
    container: InputContainer,
    streams: Sequence[VideoStream | AudioStream],
    spans: Mapping[int, Span | None],
    breaks: Sequence[Break],
    first_bytes: Mapping[int, int],
) -> None:
    """Raise DataError where a file ends before its declared duration; `first_bytes` is each stream's first position."""
    for stream in streams:
        span, declared = spans.get(stream.index), _declared(container, stream, first_bytes.get(stream.index, 0))
        if span and declared:
            _compare(container, f"{stream.type} ", span.stop - span.start, declared - _jumped(breaks, stream.index))
    # Matroska declares only the duration of the whole file.
    if container.format.name.startswith("matroska") and len(container.streams) == len(streams) and container.duration:
        jumped = max(_jumped(breaks, stream.index) for stream in streams)
        stops = [span.stop for span in spans.values() if span]
        declared = Fraction(container.duration, av.time_base) - jumped
        _compare(container, "", max(stops, default=declared), declared)


def _compare(container: InputContainer, what: str, found: Fraction, declared: Fraction) -> None:
    if found < declared - CUT_SHORT:
        name = container.name.removeprefix("file:")
        raise DataError(f"{name}: cut short: {what}ends after {float(found):.2f} s of {float(declared):.2f} s")


def _jumped(breaks: Sequence[Break], stream: int) -> Fraction:
    return sum((one.jump for one in breaks if one.stream == stream and one.jump > 0), Fraction(0))


def _declared(container: InputContainer, stream: VideoStream | AudioStream, first_byte: int) -> Fraction | None:
    """Return the duration in seconds that the header declares, None where it is only estimated from the bit rate."""
    if stream.duration is None or container.format.name.split(",")[0] not in COUNTED or stream.frames >= UNCOUNTED:
        return None
    declared = stream.duration * (stream.time_base or Fraction(1))
    if container.format.name == "mp3" and stream.bit_rate:
        estimated = Fraction(8 * (container.size - first_byte), stream.bit_rate)
        return None if abs(declared - estimated) < ESTIMATED else declared
    return declared
