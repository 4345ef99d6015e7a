"""Read a clip once, from its first frame to its last, and keep all that the metrics without a network need of it.

A protocol may have its own detectors look at the same decoded frames and audio: see `FurtherAnalysis`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdisco_cli.data.media import Clip, MediaInfo, Span, WindowFrames, decode_audio, probe, walk_frames
from mmdisco_cli.data.resampling import resample
from mmdisco_cli.measures.analysis import Analysis, Floats, analyse_audio, analyse_frames
from mmdisco_cli.measures.cache import Arrays, Cache
from mmdisco_cli.measures.features import NAMES, SAMPLE_RATE, features_from
from mmdisco_cli.run.files import sha256_of


@dataclass(frozen=True)
class ClipShape:
    """Frames (T, height, width) at `fps`, with mono audio at 16 kHz of the same length."""

    frames: int
    fps: Fraction
    height: int
    width: int

    @property
    def seconds(self) -> Fraction:
        """Return the length."""
        return self.frames / self.fps


@dataclass(frozen=True)
class FurtherAnalysis:
    """What a protocol finds in every clip beside what is always found, in the same decoding.

    `measure` turns the first `shape` of a clip, from where both streams have begun on, into arrays by name: video
    (3, T, H, W) and audio (1, S) at 16 kHz, both in [-1, 1]. `name` stands for these arrays in the cache, so that it
    has to change whenever they do.
    """

    name: str
    shape: ClipShape
    measure: Callable[[Clip], Arrays]


@dataclass(frozen=True)
class MeasuredClip:
    """One usable clip and what was found in it; times are in seconds from the start of its earlier stream.

    `motion[i]` is the flow from analysed frame i - 1 to i, shown at `times[i]`; `onsets` are those of audio at 22050
    Hz, `own_onsets` at its own rate. `facts` holds what JSON can hold, `further` what a `FurtherAnalysis` found.
    `root` is the folder that was named, None for the one in which the clip lies.
    """

    path: Path
    digest: str
    facts: dict[str, Any]
    times: Floats
    motion: Floats
    onsets: Floats
    own_onsets: Floats
    envelope: Floats
    features: dict[str, Tensor]
    further: Arrays = field(default_factory=dict)
    root: Path | None = None

    @property
    def name(self) -> str:
        """Return what it shares with its partners in other rows: its path below the folder that was named."""
        return self.path.relative_to(self.root or self.path.parent).as_posix()

    @property
    def match_window(self) -> float:
        """Return within how many seconds an onset meets a peak of motion.

        It is the time from one frame to the next, but never less than the analysis requests.
        """
        return float(self.facts["frame"])

    @property
    def stop(self) -> float:
        """Return when the earlier stream ends."""
        return float(min(self.facts["video"][1], self.facts["audio"][1]))


def measure_clip(path: Path, analysis: Analysis, further: FurtherAnalysis | None = None) -> MeasuredClip:
    """Measure one clip in memory that does not grow with its frames.

    Raises:
        DataError: it cannot be decoded to its end, lacks audio or video, or is too short for the further analysis.
    """
    return unpack(path, _digest_of(path), _decode_and_measure(path, analysis, further))


def kept_or_measured(
    path: Path, root: Path | None, analysis: Analysis, further: FurtherAnalysis | None, cache: Cache
) -> tuple[MeasuredClip, Callable[[], None]]:
    """Return a clip as it is in the cache, else as `measure_clip` does, and what puts it there.

    The two are apart since a cache that cannot be written says nothing about the clip.
    """
    digest = _digest_of(path)
    names = [analysis.name, *([further.name] if further else [])]
    kept = [arrays for name in names if (arrays := cache.get(digest, name)) is not None]
    if len(kept) == len(names):
        return unpack(path, digest, kept, root), lambda: None
    found = _decode_and_measure(path, analysis, further)

    def keep() -> None:
        for name, arrays in zip(names, found, strict=True):
            cache.put(digest, name, arrays)

    return unpack(path, digest, found, root), keep


def _digest_of(path: Path) -> str:
    # What a folder is, opening it says better than hashing it.
    return "" if path.is_dir() else sha256_of(path)


def _decode_and_measure(path: Path, analysis: Analysis, further: FurtherAnalysis | None) -> list[Arrays]:
    """Return the arrays that are kept of a clip, and those of the further analysis where there is one."""
    info = probe(path)
    start = info.span().start
    assert info.video is not None
    assert info.audio is not None
    window = _window_of(info, further.shape) if further else None
    frames = analyse_frames(info, info.video, window.walk() if window else walk_frames(info), analysis)
    sound = decode_audio(info)
    whole = sound.whole()
    audio = analyse_audio(info.audio, whole[0], sound.rate)
    facts = frames.facts | audio.facts | {"jumps": bool(info.breaks)}
    features = features_from(frames.small, resample(whole, sound.rate, SAMPLE_RATE), frames.per_step)
    found: list[Arrays] = [{
        "facts": np.array(json.dumps(facts)), "times": frames.times, "motion": frames.motion,
        "onsets": audio.onsets, "own_onsets": audio.own_onsets, "envelope": audio.envelope,
        **{f"feature_{name}": vector.numpy() for name, vector in features.items()},
    }]  # fmt: skip
    if window and further:
        span = Span(start, start + further.shape.seconds)
        waves = sound.window(span, SAMPLE_RATE, 1 / (2 * further.shape.fps))
        found.append(further.measure(Clip(window.video(), waves, further.shape.fps, SAMPLE_RATE, float(start))))
    return found


def _window_of(info: MediaInfo, shape: ClipShape) -> WindowFrames:
    return WindowFrames(info, shape.frames, shape.fps, shape.height, shape.width)


def unpack(path: Path, digest: str, kept: Sequence[Arrays], root: Path | None = None) -> MeasuredClip:
    """Return a clip from the arrays that are kept of it, those of a further analysis last."""
    arrays, *further = kept
    features = {name: torch.from_numpy(arrays[f"feature_{name}"]) for name in NAMES}
    times, motion, onsets, own_onsets, envelope = (arrays[name] for name in _ARRAYS)
    facts = json.loads(str(arrays["facts"]))
    return MeasuredClip(
        path, digest, facts, times, motion, onsets, own_onsets, envelope, features, further[0] if further else {}, root
    )


_ARRAYS = ("times", "motion", "onsets", "own_onsets", "envelope")
