"""Read a clip once, from its first picture to its last, and keep all that the metrics without a network need of it."""

import hashlib
import json
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mmdisco_cli.data.media import MediaInfo, Span, probe, read_whole_sound, walk_pictures
from mmdisco_cli.data.resampling import resample
from mmdisco_cli.errors import DataError
from mmdisco_cli.measures.features import NAMES, SAMPLE_RATE, features_from, pooled
from mmdisco_cli.measures.motion import Grey, flow_length
from mmdisco_cli.measures.onsets import ONSET_RATE, onset_envelope, onset_times
from mmdisco_cli.measures.picking import Colour, spaced

VERSION = 5
"""To be raised with every change of what is measured here: it names what is cached."""
SLOW = 0.95
"""Share of the analysed rate below which pictures are too few for it."""
FULL = 0.999
"""Samples at least this large count as clipped."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Analysis:
    """The pictures that motion is measured on: length of their shorter side, and how many a second; None: the file's.

    Flow is in pixels and peaks lie a frame apart, so that scores of clips that differ in either do not compare. Of a
    file whose rate is no multiple of `fps` those pictures are taken that lie nearest to it and evenly, and flow is told
    per 1 / `fps` whatever lies between them.
    """

    height: int | None = 128
    fps: Fraction | None = Fraction(10)

    @property
    def name(self) -> str:
        """Return what tells one analysis from another."""
        return f"{VERSION}-{self.height or 'native'}px-{self.fps or 'native'}fps"


@dataclass(frozen=True)
class Watched:
    """What was found in one clip; times are in seconds from the start of its earlier stream.

    `motion[i]` is the flow from picture i - 1 to i, shown at `times[i]`. A match lies within `frame` seconds: what is
    from picture to picture, but never less than the analysis asks for.
    `facts` holds numbers that JSON can hold.
    """

    digest: str
    facts: dict[str, Any]
    times: Floats
    motion: Floats
    onsets: Floats
    own_onsets: Floats
    envelope: Floats
    features: dict[str, Tensor]

    @property
    def frame(self) -> float:
        """Return within how many seconds an onset meets a peak: those from one picture to the next."""
        return float(self.facts["frame"])

    @property
    def stop(self) -> float:
        """Return when the earlier stream ends."""
        return float(min(self.facts["video"][1], self.facts["audio"][1]))


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file; raise DataError, naming it, where it cannot be read."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error


def watch(path: Path, analysis: Analysis, digest: str) -> Watched:
    """Measure one clip in memory that does not grow with its pictures.

    Raises:
        DataError: it cannot be decoded to its end, or lacks sound or picture.
    """
    info = probe(path)
    info.span()
    assert info.video is not None
    assert info.audio is not None
    pictures = _pictures(info, info.video, analysis)
    sound, rate = read_whole_sound(info)
    start = float(info.audio.start)
    heard = as_sixteen_bit(sound)
    envelope = onset_envelope(resample(heard[None], rate, ONSET_RATE)[0], ONSET_RATE)
    own = envelope if rate == ONSET_RATE else onset_envelope(heard, rate)
    facts = pictures.facts | {
        "audio": [start, float(info.audio.stop)],
        "jumps": bool(info.breaks),
        "sample_rate": rate,
        "peak": round(float(sound.abs().max()), 5),
        "rms_db": round(10 * float(sound.square().mean().clamp_min(1e-10).log10()), 2),
        "clipped": round(float((sound.abs() >= FULL).double().mean()), 6),
    }
    heard_anew = resample(sound[None], rate, SAMPLE_RATE)
    return Watched(
        digest, facts, pictures.times, pictures.motion,
        np.array(onset_times(envelope, ONSET_RATE)) + start, np.array(onset_times(own, rate)) + start,
        envelope.double().numpy(), features_from(pictures.small, heard_anew, pictures.per_step),
    )  # fmt: skip


def as_sixteen_bit(sound: Tensor) -> Tensor:
    """Return sound as a 16-bit .wav holds it, which published scores were computed from: faint onsets depend on it."""
    return (sound * 32768).round().clamp(-32768, 32767) / 32768


def pack(watched: Watched) -> dict[str, npt.NDArray[Any]]:
    """Return arrays that hold everything."""
    arrays = {name: getattr(watched, name) for name in _ARRAYS}
    features = {f"feature_{name}": vector.numpy() for name, vector in watched.features.items()}
    return {"facts": np.array(json.dumps(watched.facts)), **arrays, **features}


def unpack(digest: str, arrays: dict[str, npt.NDArray[Any]]) -> Watched:
    """Return what `pack` was given."""
    features = {name: torch.from_numpy(arrays[f"feature_{name}"]) for name in NAMES}
    times, motion, onsets, own_onsets, envelope = (arrays[name] for name in _ARRAYS)
    facts = json.loads(str(arrays["facts"]))
    return Watched(digest, facts, times, motion, onsets, own_onsets, envelope, features)


_ARRAYS = ("times", "motion", "onsets", "own_onsets", "envelope")


@dataclass(frozen=True)
class _Pictures:
    facts: dict[str, Any]
    times: Floats
    motion: Floats
    small: Tensor
    per_step: Tensor


def _pictures(info: MediaInfo, span: Span, analysis: Analysis) -> _Pictures:
    stamps: list[Fraction] = []
    motion: list[float] = []
    small: list[Tensor] = []
    before: Grey | None = None
    low = high = size = None
    shown: list[Fraction] = []
    scales: list[float] = []
    for time, picture in spaced(walk_pictures(info), span, analysis.fps, stamps):
        grey = _grey(picture, analysis.height)
        if before is not None:
            scales.append(_per_step(time - shown[-1], analysis.fps))
        motion.append(0.0 if before is None else flow_length(before, grey) * scales[-1])
        low = grey if low is None else np.minimum(low, grey)
        high = grey if high is None else np.maximum(high, grey)
        small.append(_small(picture))
        shown.append(time)
        before, size = grey, picture.shape[:2]
    if low is None or high is None or size is None:
        raise DataError(f"{info.path}: no picture can be decoded")
    if len(motion) > 1:
        motion[0] = motion[1]
    own, times = _rate(stamps, span), [float(time) for time in shown]
    if analysis.fps is None and info.rate and _is_even(stamps, info.rate):
        # Stamps of Matroska are whole milliseconds; pictures that come evenly are timed by the rate, as everybody does.
        own = float(info.rate)
        times = [float(stamps[0] + k / info.rate) for k in range(len(stamps))]
    facts = {
        "video": [float(span.start), float(span.stop)],
        "pictures": len(stamps),
        "fps": round(own, 4),
        "varies": _varies(stamps),
        "height": size[0],
        "width": size[1],
        "frame": float(max(1 / analysis.fps, _usual_gap(shown))) if analysis.fps else 1 / own,
        "slow": bool(analysis.fps) and own < SLOW * float(analysis.fps or 0),
        "range": int((high - low).max()),
    }
    return _Pictures(facts, np.array(times), np.array(motion), torch.stack(small), torch.tensor(scales))


def _grey(picture: Colour, height: int | None) -> Grey:
    grey: Grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)  # type: ignore[assignment]
    rows, columns = grey.shape
    if height is None or min(rows, columns) == height:
        return grey
    scale = height / min(rows, columns)
    size = (max(height, round(columns * scale)), max(height, round(rows * scale)))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)  # type: ignore[return-value]


def _small(picture: Colour) -> Tensor:
    """Return the mean colours of 8 x 8 fields, (3, 8, 8) in [-1, 1], red first."""
    video = torch.from_numpy(picture[:, :, ::-1].copy()).permute(2, 0, 1)[:, None].float().div_(127.5).sub_(1)
    return pooled(video)[0]


def _rate(stamps: list[Fraction], span: Span) -> float:
    """Return the mean rate of pictures: of one picture, that at which it alone would fill its stream."""
    if len(stamps) > 1 and stamps[-1] > stamps[0]:
        return float((len(stamps) - 1) / (stamps[-1] - stamps[0]))
    return float(1 / (span.stop - span.start)) if span.stop > span.start else 1.0


def _per_step(gap: Fraction, fps: Fraction | None) -> float:
    """Return what a change over a gap is times in 1 / fps; two pictures that are shown at once have no gap."""
    return float(1 / (fps * gap)) if fps and gap > 0 else 1.0


def _usual_gap(shown: list[Fraction]) -> Fraction:
    gaps = sorted(b - a for a, b in pairwise(shown))
    return gaps[len(gaps) // 2] if gaps else Fraction(0)


def _is_even(stamps: list[Fraction], rate: Fraction) -> bool:
    """Return whether pictures come at a rate, but for stamps that are rounded to milliseconds."""
    return all(abs(stamp - stamps[0] - k / rate) <= Fraction(1, 1000) for k, stamp in enumerate(stamps))


def _varies(stamps: list[Fraction]) -> bool:
    """Return whether pictures come unevenly, beyond what rounding of stamps explains."""
    gaps = [b - a for a, b in pairwise(stamps)]
    return bool(gaps) and max(gaps) - min(gaps) > Fraction(1, 100)
