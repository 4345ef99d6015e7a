"""Change the sample rate of sound without moving it in time."""

from __future__ import annotations

from fractions import Fraction

import torchaudio.functional
from torch import Tensor

LARGEST_RATIO = 1000


def resample(wave: Tensor, source: int, target: int) -> Tensor:
    """Resample (C, S) from `source` to `target` Hz; sample 0 stays at time 0.

    torchaudio's windowed sinc is used, for it is symmetric about every output instant (no delay to make good, as a
    streaming resampler has), gives the same values for any block and needs no further package. Its filter bank grows
    with the reduced rates, so that odd ones (22254 Hz) take the nearest ratio of small
    numbers, at most 1 us off a second.
    """
    if source == target or wave.shape[-1] == 0:
        return wave
    ratio = Fraction(target, source).limit_denominator(LARGEST_RATIO)
    moved: Tensor = torchaudio.functional.resample(wave, ratio.denominator, ratio.numerator, lowpass_filter_width=32)
    return moved
