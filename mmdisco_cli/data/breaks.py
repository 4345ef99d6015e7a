"""Discontinuities ("breaks") in a file's time stamps, as in joined or damaged recordings, and their removal."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import accumulate, count, pairwise
from statistics import median_low
from typing import Any, NamedTuple

from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.stream import VideoStream

JUMP = Fraction(10)
"""Seconds without audio and video above which a jump is taken for wrong stamps, as by ffmpeg in transport streams."""
BACK = Fraction(1, 2)
"""Seconds by which stamps go backwards where two recordings are joined."""
ALIKE = Fraction(1)
"""Seconds within which the jumps of two streams count as the same one, so that audio and video stay in sync."""


@dataclass(frozen=True, slots=True)
class Span:
    """A stretch of time, in seconds."""

    start: Fraction
    stop: Fraction


class Stamp(NamedTuple):
    """A packet's decoding time in seconds (presentation time where it has no other), its duration, and its number."""

    time: Fraction
    length: Fraction
    number: int


@dataclass(frozen=True)
class Break:
    """From packet `number` of a stream on, stamps are `jump` seconds too late; the corrected time there is `at`."""

    stream: int
    number: int
    jump: Fraction
    at: Fraction


def find_breaks(streams: Mapping[int, Sequence[Stamp]]) -> tuple[Break, ...]:
    """Return the breaks of all streams, by stream and packet. Where another stream continues, a gap is a pause."""
    found: list[Break] = []
    covers = {index: _cover(stamps) for index, stamps in streams.items()}
    for index, stamps in streams.items():
        others = [cover for other, cover in covers.items() if other != index]
        real = [one for one in _jumps(index, stamps) if one.jump < 0 or not _goes_on(one, others)]
        found += _aligned(real, found)
    return tuple(found)


def shifts(breaks: Sequence[Break], stream: int) -> Iterator[Fraction]:
    """Yield, without end, by how many seconds the stamps of each packet of a stream are too late."""
    jumps = {one.number: one.jump for one in breaks if one.stream == stream}
    yield from accumulate(jumps.get(number, Fraction(0)) for number in count())


def decoded(container: InputContainer, stream: VideoStream | AudioStream, breaks: Sequence[Break]) -> Iterator[Any]:
    """Yield the frames of a stream with its breaks removed; with any, the container must be at its beginning."""
    for packet, shift in zip(container.demux(stream), shifts(breaks, stream.index), strict=False):
        if shift and packet.pts is not None:
            packet.pts -= round(shift / packet.time_base)
        if shift and packet.dts is not None:
            packet.dts -= round(shift / packet.time_base)
        yield from packet.decode()


def typical_length(stamps: Sequence[Stamp]) -> Fraction:
    """Return the median duration of a stream's packets in seconds, 0 where it is unknown."""
    declared = [stamp.length for stamp in stamps if stamp.length]
    steps = [gap for a, b in pairwise(stamps) if (gap := b.time - a.time) > 0]
    return median_low(declared or steps or [Fraction(0)])


def _jumps(index: int, stamps: Sequence[Stamp]) -> list[Break]:
    """Return every jump of a stream's stamps in the order of the file, with `at` in uncorrected stamps."""
    typical, found = typical_length(stamps), []
    for last, stamp in pairwise(stamps):
        # A container that stores only durations turns a jump into one packet that lasts for hours.
        end = last.time + (last.length if 0 < last.length <= JUMP else typical)
        if stamp.time - end > JUMP or stamp.time - last.time < -BACK:
            found.append(Break(index, stamp.number, stamp.time - end, end))
    return found


Cover = tuple[list[Fraction], list[Fraction]]


def _cover(stamps: Sequence[Stamp]) -> Cover:
    """Return the rising times of a stream's packets, and the total duration of those before each, in seconds.

    Each lasts until the next, as in a slide show, unless the gap is long enough to be a jump.
    """
    times, typical = sorted(stamp.time for stamp in stamps), typical_length(stamps)
    lengths = [step if step <= JUMP else typical for step in (b - a for a, b in pairwise(times))]
    return times, [Fraction(0), *accumulate([*lengths, typical])]


def _goes_on(one: Break, others: Sequence[Cover]) -> bool:
    """Return whether another stream covers most of a gap."""
    first, last = one.at, one.at + one.jump
    filled = (sums[bisect_left(times, last)] - sums[bisect_left(times, first)] for times, sums in others)
    return max(filled, default=Fraction(0)) > one.jump / 2


def _aligned(own: Sequence[Break], known: Sequence[Break]) -> Iterator[Break]:
    """Yield a stream's breaks, each with the jump of the same break in another stream, and `at` in corrected time."""
    free, total = list(known), Fraction(0)
    for one in own:
        same = next((other for other in free if abs(other.jump - one.jump) < ALIKE), None)
        if same is not None:
            free.remove(same)
        jump = same.jump if same else one.jump
        yield replace(one, jump=jump, at=one.at - total)
        total += jump
