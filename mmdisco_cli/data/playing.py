"""Place decoded audio in time as players do: jitter is ignored, drift followed, and only real gaps become silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import Tensor

GAP = 0.02
"""Seconds from which deviating stamps are followed. Smaller deviations are inaudible as delay, but a gap filled with
zeros is audible as a click. With 20 ms, onsets are those of audio decoded without stamps, on every clip compared.
"""
NEAR = 3
"""Frames on either side with which a stamp is compared: up to so many deviating ones are taken for wrong stamps."""
KNOT = 1.0
"""Seconds over which drift is averaged."""
TAPS = 32
CHUNK = 1 << 15
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Piece:
    """The audio (C, S) of one decoded frame, and its stamp in seconds."""

    time: Fraction
    wave: Tensor


def played(pieces: Sequence[Piece], rate: int) -> list[Piece]:
    """Join the frames of a stream into pieces without a gap, each starting at its first frame's stamp.

    Within a piece audio is concatenated where its stamps stay within GAP of gapless playback, and else resampled to
    follow them, which corrects a clock that runs slow or fast. Pieces may overlap where stamps go backwards.
    """
    late = _lateness(pieces, rate)
    level = _level(late)
    bounds = [0, *_gaps(level), len(pieces)]
    return [_stretch(pieces[a:b], level[a:b] - late[a], rate) for a, b in pairwise(bounds) if a < b]


def _lateness(pieces: Sequence[Piece], rate: int) -> Floats:
    """Return by how many seconds each stamp is later than gapless playback since the first."""
    lengths = [piece.wave.shape[1] for piece in pieces]
    ends = np.cumsum([0, *lengths[:-1]]) / rate
    return np.array([float(piece.time - pieces[0].time) for piece in pieces]) - ends


def _level(late: Floats) -> Floats:
    """Return the running median, which removes outliers and keeps edges where they are."""
    level = late.copy()
    for reach in range(1, NEAR + 1):
        if len(late) > 2 * reach:
            # Fewer frames on either side near the ends; the widest windows come last, and stay where they fit.
            level[reach : len(late) - reach] = np.median(sliding_window_view(late, 2 * reach + 1), axis=1)
    return level


def _gaps(level: Floats) -> list[int]:
    """Return where the lateness jumps; drift gets as far in small steps, and makes no gap."""
    found, kept = [], level[0] if len(level) else 0.0
    for index in range(1, len(level)):
        if abs(level[index] - kept) <= GAP:
            continue
        if abs(level[index] - level[index - 1]) > GAP / 2:
            found.append(index)
        kept = level[index]
    return found


def _stretch(pieces: Sequence[Piece], drift: Floats, rate: int) -> Piece:
    wave = torch.cat([piece.wave for piece in pieces], dim=1)
    if len(pieces) > 1 and np.abs(drift).max() > GAP:
        wave = _warped(wave, _places([piece.wave.shape[1] for piece in pieces], drift, rate))
    return Piece(pieces[0].time, wave)


def _places(lengths: Sequence[int], drift: Floats, rate: int) -> Floats:
    """Return the fractional input position of each output sample; drift is in seconds, one value a frame."""
    starts = np.cumsum([0, *lengths[:-1]]) / rate
    whole = sum(lengths) / rate
    block = (starts / KNOT).astype(int)
    means = [(starts[block == k].mean(), drift[block == k].mean()) for k in np.unique(block)]
    own, off = np.array([(0.0, drift[0]), *means, (whole, drift[-1])]).T
    # Stamps that stand still or go backwards must not make time go backwards.
    shown = np.maximum.accumulate(own + off)
    places: Floats = np.interp(np.arange(max(1, round(shown[-1] * rate))) / rate, shown, own) * rate
    return places


def _warped(wave: Tensor, places: Floats) -> Tensor:
    """Return a wave at fractional positions, (C, len(places)), interpolated by a windowed sinc."""
    padded = torch.nn.functional.pad(wave, (TAPS // 2, TAPS))
    reach = torch.arange(1 - TAPS // 2, TAPS // 2 + 1)
    pieces = []
    for part in torch.from_numpy(places).split(CHUNK):
        whole = part.floor()
        apart = reach - (part - whole)[:, None]
        weight = torch.sinc(apart) * torch.cos(torch.pi * apart / (TAPS + 2)).square()
        near = padded[:, whole.long()[:, None] + reach + TAPS // 2]
        pieces.append((near * weight.float()).sum(-1))
    return torch.cat(pieces, dim=1)
