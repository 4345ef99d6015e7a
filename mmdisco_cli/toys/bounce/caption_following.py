"""Whether a clip of bouncing balls follows a caption: its video and its audio, each by itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmdisco_cli.data.media import Clip
from mmdisco_cli.measures.bootstrap import Measure, mean_of
from mmdisco_cli.measures.cache import Arrays
from mmdisco_cli.measures.clip import FurtherAnalysis, MeasuredClip
from mmdisco_cli.toys.bounce.audio_events import impacts_in_audio
from mmdisco_cli.toys.bounce.captions import BETWEEN, Kind
from mmdisco_cli.toys.bounce.clip_events import SHAPE, impacts_of, packed
from mmdisco_cli.toys.bounce.events import Impact, Match, match_events
from mmdisco_cli.toys.bounce.scene import pitch
from mmdisco_cli.toys.bounce.video_events import balls_in_video, impacts_in_video

VERSION = 1
"""To be raised with every change of what is found in a clip: it names what is cached."""
Kinds = tuple[Kind, ...]

ASPECTS: Mapping[str, Callable[[Kinds], object]] = {
    "text": lambda kinds: kinds,
    "number": len,
    "sizes": lambda kinds: sorted(kind.size for kind in kinds),
    "materials": lambda kinds: sorted(kind.material for kind in kinds),
}
"""What of a caption may be followed: all of it, the number of balls, their sizes, their materials."""
SENSES = ("seen", "heard")
METRICS = tuple(f"{aspect}_{sense}" for aspect in ASPECTS for sense in SENSES)


@dataclass(frozen=True)
class FoundBalls:
    """One clip: the kinds of the balls that it shows and of those that it sounds of, and its events."""

    path: Path
    seen: Kinds
    heard: Kinds
    match: Match

    def follows(self, described: Kinds) -> dict[str, bool]:
        """Return by the names in METRICS whether the clip has what a caption describes."""
        found = dict(zip(SENSES, (self.seen, self.heard), strict=True))
        return {
            f"{aspect}_{sense}": of(kinds) == of(described)
            for aspect, of in ASPECTS.items()
            for sense, kinds in found.items()
        }


def caption_analysis(lanes: int) -> FurtherAnalysis:
    """Return what is found in every clip in which balls bounce in so many lanes."""

    def measure(clip: Clip) -> Arrays:
        return {
            "balls": np.array(balls_in_video(clip.video, lanes), dtype=np.float64).reshape(-1, 2),
            "in_video": packed(impacts_in_video(clip.video, lanes)),
            "in_audio": packed(impacts_in_audio(clip.audio[0])),
        }

    return FurtherAnalysis(f"bounce-text-{VERSION}-{lanes}lanes", SHAPE, measure)


def balls_of(clip: MeasuredClip) -> FoundBalls:
    """Return what was found in a measured clip."""
    in_video, in_audio = impacts_of(clip, "in_video"), impacts_of(clip, "in_audio")
    seen = kinds_seen([(size, int(material)) for size, material in clip.further["balls"].tolist()])
    return FoundBalls(clip.path, seen, kinds_heard(in_audio), match_events(in_video, in_audio))


def kinds_seen(balls: Sequence[tuple[float, int]]) -> Kinds:
    """Return the kinds of balls of (log2 of the radius in pixels, material), one each."""
    return tuple(sorted(Kind(int(2**size > BETWEEN), material) for size, material in balls))


def kinds_heard(impacts: Sequence[Impact]) -> Kinds:
    """Return the kinds of balls that some impacts sound of: one ball of each kind, since those of a clip differ."""
    return tuple(sorted({Kind(int(2**event.size < pitch(BETWEEN)), event.material) for event in impacts}))


def caption_measures(clips: Sequence[FoundBalls], described: Sequence[Kinds]) -> dict[str, Measure]:
    """Return the shares of clips that have what the caption of each describes, by the names in METRICS."""
    following = [clip.follows(kinds) for clip, kinds in zip(clips, described, strict=True)]
    return {name: mean_of([float(one[name]) for one in following]) for name in METRICS}
