"""Events of bouncing balls, and the matching of those in video with those in audio."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

TOLERANCE = 0.05
"""Half a video frame at 10 per second."""


@dataclass(frozen=True)
class Impact:
    """One event: time in seconds, size (log2 of the radius in pixels, or of the pitch in Hz), material index."""

    time: float
    size: float
    material: int


@dataclass(frozen=True)
class Match:
    """The events of one clip and the pairs among them, each (in video, in audio)."""

    video: Sequence[Impact]
    audio: Sequence[Impact]
    pairs: Sequence[tuple[Impact, Impact]]

    @property
    def iou(self) -> float | None:
        """Matched events over all events; None where there are none."""
        union = len(self.video) + len(self.audio) - len(self.pairs)
        return len(self.pairs) / union if union else None


def match_events(video: Sequence[Impact], audio: Sequence[Impact], tolerance: float = TOLERANCE) -> Match:
    """Pair events one to one in order of time, as many as possible within `tolerance` seconds.

    Taking the earliest partner that is close enough is optimal, because both lists are sorted and the tolerance is one
    number.
    """
    pairs, k = [], 0
    for event in video:
        while k < len(audio) and audio[k].time < event.time - tolerance:
            k += 1
        if k < len(audio) and audio[k].time <= event.time + tolerance:
            pairs.append((event, audio[k]))
            k += 1
    return Match(video, audio, pairs)


def event_iou(matches: Sequence[Match]) -> float:
    """Return the mean event IoU over the clips that have any event."""
    values = [match.iou for match in matches if match.iou is not None]
    return sum(values) / len(values) if values else float("nan")


def kind_correlation(matches: Sequence[Match]) -> float:
    """Return the correlation of visible size with lowness of pitch over all pairs: 1 where big balls sound low."""
    pairs = [(video.size, -audio.size) for match in matches for video, audio in match.pairs]
    return float(torch.corrcoef(torch.tensor(pairs).T)[0, 1]) if len(pairs) > 2 else float("nan")


def material_agreement(matches: Sequence[Match]) -> float:
    """Return the share of matched pairs whose look and sound are of one material; a third is chance."""
    pairs = [video.material == audio.material for match in matches for video, audio in match.pairs]
    return sum(pairs) / len(pairs) if pairs else float("nan")
