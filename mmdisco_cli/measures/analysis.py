"""What is measured of the decoded frames and the audio of one clip, without any network: motion, onsets, loudness."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmdisco_cli.data.media import MediaInfo, Span
from mmdisco_cli.data.resampling import resample
from mmdisco_cli.errors import DataError
from mmdisco_cli.measures.features import pooled
from mmdisco_cli.measures.frame_choice import Colour, spaced
from mmdisco_cli.measures.motion import Grey, flow_length
from mmdisco_cli.measures.onsets import ONSET_RATE, onset_envelope, onset_times

VERSION = 5
"""To be raised with every change of what is measured here: it names what is cached."""
SLOW = 0.95
"""Share of the analysed rate below which frames are too few for it."""
FULL = 0.999
"""Samples at least this large count as clipped."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Analysis:
    """The frames that motion is measured on: length of their shorter side, and how many a second; None: the file's.

    Flow is in pixels and peaks lie a frame apart, so that scores of clips that differ in either do not compare. Of a
    file whose rate is not a multiple of `fps` the frames nearest to it are taken, evenly, and flow is given
    per 1 / `fps` whatever lies between them.
    """

    height: int | None = 128
    fps: Fraction | None = Fraction(10)

    @property
    def name(self) -> str:
        """Return a name that distinguishes analyses."""
        return f"{VERSION}-{self.height or 'native'}px-{self.fps or 'native'}fps"


@dataclass(frozen=True)
class AnalysedFrames:
    """Facts about a video, and the flow to each analysed frame, shown at `times`.

    `small` are the frames (T, 3, 8, 8) of mean colours, `per_step` (T - 1,) what a change from one to the next is times
    in 1 / fps.
    """

    facts: dict[str, Any]
    times: Floats
    motion: Floats
    small: Tensor
    per_step: Tensor


@dataclass(frozen=True)
class AnalysedAudio:
    """Facts about an audio stream, its onset envelope at 22050 Hz, and onsets in seconds, there and at its own rate."""

    facts: dict[str, Any]
    onsets: Floats
    own_onsets: Floats
    envelope: Floats


def analyse_audio(span: Span, wave: Tensor, rate: int) -> AnalysedAudio:
    """Measure the whole audio (S,) at `rate` of a clip in which it lasts for `span`."""
    start = float(span.start)
    quantised = as_sixteen_bit(wave)
    envelope = onset_envelope(resample(quantised[None], rate, ONSET_RATE)[0], ONSET_RATE)
    own = envelope if rate == ONSET_RATE else onset_envelope(quantised, rate)
    facts = {
        "audio": [start, float(span.stop)],
        "sample_rate": rate,
        "peak": round(float(wave.abs().max()), 5),
        "rms_db": round(10 * float(wave.square().mean().clamp_min(1e-10).log10()), 2),
        "clipped": round(float((wave.abs() >= FULL).double().mean()), 6),
    }
    onsets, own_onsets = (
        np.array(onset_times(curve, at)) + start for curve, at in ((envelope, ONSET_RATE), (own, rate))
    )
    return AnalysedAudio(facts, onsets, own_onsets, envelope.double().numpy())


def as_sixteen_bit(wave: Tensor) -> Tensor:
    """Return audio as a 16-bit .wav holds it, which published scores were computed from: faint onsets depend on it."""
    return (wave * 32768).round().clamp(-32768, 32767) / 32768


def analyse_frames(
    info: MediaInfo, span: Span, frames: Iterator[tuple[Fraction, Colour]], analysis: Analysis
) -> AnalysedFrames:
    """Measure all frames of a video in one pass, holding two at a time; raise DataError where there are none."""
    stamps: list[Fraction] = []
    motion: list[float] = []
    small: list[Tensor] = []
    before: Grey | None = None
    low = high = size = None
    shown: list[Fraction] = []
    scales: list[float] = []
    for time, frame in spaced(frames, span, analysis.fps, stamps):
        grey = _grey(frame, analysis.height)
        if before is not None:
            scales.append(_per_step(time - shown[-1], analysis.fps))
        motion.append(0.0 if before is None else flow_length(before, grey) * scales[-1])
        low = grey if low is None else np.minimum(low, grey)
        high = grey if high is None else np.maximum(high, grey)
        small.append(_small(frame))
        shown.append(time)
        before, size = grey, frame.shape[:2]
    if low is None or high is None or size is None:
        raise DataError(f"{info.path}: no frame can be decoded")
    if len(motion) > 1:
        motion[0] = motion[1]
    own, times = _rate(stamps, span), [float(time) for time in shown]
    if analysis.fps is None and info.rate and _is_even(stamps, info.rate):
        # Stamps of Matroska are whole milliseconds; frames that come evenly are timed by the rate, as everybody does.
        own = float(info.rate)
        times = [float(stamps[0] + k / info.rate) for k in range(len(stamps))]
    facts = {
        "video": [float(span.start), float(span.stop)],
        "frames": len(stamps),
        "fps": round(own, 4),
        "varies": _varies(stamps),
        "height": size[0],
        "width": size[1],
        "frame": float(max(1 / analysis.fps, _usual_gap(shown))) if analysis.fps else 1 / own,
        "slow": bool(analysis.fps) and own < SLOW * float(analysis.fps or 0),
        "range": int((high - low).max()),
    }
    return AnalysedFrames(facts, np.array(times), np.array(motion), torch.stack(small), torch.tensor(scales))


def _grey(frame: Colour, height: int | None) -> Grey:
    grey: Grey = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)  # type: ignore[assignment]
    rows, columns = grey.shape
    if height is None or min(rows, columns) == height:
        return grey
    scale = height / min(rows, columns)
    size = (max(height, round(columns * scale)), max(height, round(rows * scale)))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)  # type: ignore[return-value]


def _small(frame: Colour) -> Tensor:
    """Return the mean colours of 8 x 8 fields, (3, 8, 8) in [-1, 1], red first."""
    video = torch.from_numpy(frame[:, :, ::-1].copy()).permute(2, 0, 1)[:, None].float().div_(127.5).sub_(1)
    return pooled(video)[0]


def _rate(stamps: list[Fraction], span: Span) -> float:
    """Return the mean rate of frames: of one frame, that at which it alone would fill its stream."""
    if len(stamps) > 1 and stamps[-1] > stamps[0]:
        return float((len(stamps) - 1) / (stamps[-1] - stamps[0]))
    return float(1 / (span.stop - span.start)) if span.stop > span.start else 1.0


def _per_step(gap: Fraction, fps: Fraction | None) -> float:
    """Return what a change over a gap is times in 1 / fps; two frames that are shown at once have no gap."""
    return float(1 / (fps * gap)) if fps and gap > 0 else 1.0


def _usual_gap(shown: list[Fraction]) -> Fraction:
    gaps = sorted(b - a for a, b in pairwise(shown))
    return gaps[len(gaps) // 2] if gaps else Fraction(0)


def _is_even(stamps: list[Fraction], rate: Fraction) -> bool:
    """Return whether frames come at a rate, but for stamps that are rounded to milliseconds."""
    return all(abs(stamp - stamps[0] - k / rate) <= Fraction(1, 1000) for k, stamp in enumerate(stamps))


def _varies(stamps: list[Fraction]) -> bool:
    """Return whether frames come unevenly, more than rounding of stamps explains."""
    gaps = [b - a for a, b in pairwise(stamps)]
    return bool(gaps) and max(gaps) - min(gaps) > Fraction(1, 100)
