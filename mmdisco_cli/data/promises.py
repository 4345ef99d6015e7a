"""Tell a file that was cut short by how long its header says it is, where a header counts and does not guess."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

import av
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

from mmdisco_cli.data.breaks import Break
from mmdisco_cli.errors import DataError

if TYPE_CHECKING:
    from mmdisco_cli.data.probing import Span

CUT_SHORT = Fraction(1, 2)  # seconds that may be missing at the end of what the header promises
COUNTED = ("mov", "avi", "mp3", "flac", "w64", "aiff", "caf")  # formats whose headers count what follows
ESTIMATED = Fraction(1, 1000)  # seconds within which a duration is that of a file's bytes at its first bit rate
UNCOUNTED = 1 << 30  # pictures or samples that a header promises where its writer could not go back to count


def refuse_truncated(
    container: InputContainer,
    streams: Sequence[VideoStream | AudioStream],
    spans: Mapping[int, Span | None],
    breaks: Sequence[Break],
    first_bytes: Mapping[int, int],
) -> None:
    """Raise DataError where a file ends before its header says; `first_bytes` is where each stream's packets begin."""
    for stream in streams:
        span, promised = spans.get(stream.index), _promised(container, stream, first_bytes.get(stream.index, 0))
        if span and promised:
            _compare(container, f"{stream.type} ", span.stop - span.start, promised - _jumped(breaks, stream.index))
    # Matroska writes down only the length of the whole file.
    if container.format.name.startswith("matroska") and len(container.streams) == len(streams) and container.duration:
        jumped = max(_jumped(breaks, stream.index) for stream in streams)
        stops = [span.stop for span in spans.values() if span]
        promised = Fraction(container.duration, av.time_base) - jumped
        _compare(container, "", max(stops, default=promised), promised)


def _compare(container: InputContainer, what: str, found: Fraction, promised: Fraction) -> None:
    if found < promised - CUT_SHORT:
        name = container.name.removeprefix("file:")
        raise DataError(f"{name}: cut short: {what}ends after {float(found):.2f} s of {float(promised):.2f} s")


def _jumped(breaks: Sequence[Break], stream: int) -> Fraction:
    return sum((one.jump for one in breaks if one.stream == stream and one.jump > 0), Fraction(0))


def _promised(container: InputContainer, stream: VideoStream | AudioStream, first_byte: int) -> Fraction | None:
    """Return how many seconds the header counts, None where the duration is only estimated from bytes and bit rate."""
    if stream.duration is None or container.format.name.split(",")[0] not in COUNTED or stream.frames >= UNCOUNTED:
        return None
    promised = stream.duration * (stream.time_base or Fraction(1))
    if container.format.name == "mp3" and stream.bit_rate:
        estimated = Fraction(8 * (container.size - first_byte), stream.bit_rate)
        return None if abs(promised - estimated) < ESTIMATED else promised
    return promised
