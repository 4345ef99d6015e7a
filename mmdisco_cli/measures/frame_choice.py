"""Which frames of a clip are analysed: its own at an even distance, or what is shown at even times."""

from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from mmdisco_cli.data.media import Span

Colour = npt.NDArray[np.uint8]
HALF_MILLISECOND = Fraction(1, 2000)
TIE = Fraction(1, 500)
"""Seconds within which two frames are equally far from a time: stamps of Matroska are whole milliseconds."""


def spaced(
    walk: Iterator[tuple[Fraction, Colour]], span: Span, fps: Fraction | None, stamps: list[Fraction]
) -> Iterator[tuple[Fraction, Colour]]:
    """Yield frames at their own times, each the nearest to 1 / fps after the one before; note all stamps.

    Of two that are as near it is the later. Frames that come evenly are so taken evenly, every second or third, where
    what is shown at even times would step over two and three in turn; those that come more slowly are all taken.
    """
    last: Fraction | None = None
    kept: tuple[Fraction, Colour] | None = None
    for time, frame in walk:
        stamps.append(time)
        if fps is None:
            yield time, frame
            continue
        if kept is not None and _passed(kept[0], time, last, span, fps):
            yield kept
            last = kept[0]
        kept = time, frame
    if fps is None or kept is None:
        return
    # The last frame counts where its step is full and is one of those that the length of the clip has room for.
    full = (
        _passed(kept[0], span.stop, last, span, fps)
        and kept[0] < span.start + round((span.stop - span.start) * fps) / fps
    )
    if last is None or full:
        yield kept


def _passed(kept: Fraction, time: Fraction, last: Fraction | None, span: Span, fps: Fraction) -> bool:
    """Return whether a frame is to be taken rather than one at a later time."""
    if last is None:
        return time > span.start + HALF_MILLISECOND
    due = last + 1 / fps
    return time - due > due - kept + TIE


def sampled(
    walk: Iterator[tuple[Fraction, Colour]], span: Span, fps: Fraction | None, stamps: list[Fraction]
) -> Iterator[tuple[Fraction, Colour]]:
    """Yield what is shown at each of the times, or every frame at its own; note the stamps of all that pass."""
    shown: Colour | None = None
    count = 0
    for time, frame in walk:
        stamps.append(time)
        if fps is None:
            yield time, frame
            continue
        # A stamp that is late by rounding alone, as Matroska's milliseconds are, is not late.
        while shown is not None and time > span.start + count / fps + HALF_MILLISECOND:
            yield span.start + count / fps, shown
            count += 1
        shown = frame
    if fps is not None and shown is not None:
        for k in range(count, max(count + (count == 0), round((span.stop - span.start) * fps))):
            yield span.start + k / fps, shown
