"""What both detectors find in a clip of bouncing balls, as arrays that are kept of it, and what is measured of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdisco_cli.data.media import Clip
from mmdisco_cli.measures.bootstrap import Measure, correlation, estimate, gap_closed, mean_of, ratio, shares
from mmdisco_cli.measures.cache import Arrays
from mmdisco_cli.measures.clip import ClipShape, FurtherAnalysis, MeasuredClip
from mmdisco_cli.measures.features import NAMES, features_of
from mmdisco_cli.toys.bounce.audio_events import impacts_in_audio
from mmdisco_cli.toys.bounce.events import Impact, Match, match_events
from mmdisco_cli.toys.bounce.render import FPS, FRAMES
from mmdisco_cli.toys.bounce.scene import MATERIALS, SIZE
from mmdisco_cli.toys.bounce.video_events import impacts_in_video

VERSION = 1
"""To be raised with every change of what the detectors find: it names what is cached."""
SHAPE = ClipShape(FRAMES, Fraction(FPS), SIZE, SIZE)
METRICS = ("event_iou", "kind_correlation", "material_agreement", "events_seen", "events_heard")
COMPARED = ("event_iou", "kind_correlation", "material_agreement")
"""Of these the gap between real and independent clips is what guidance may close."""


@dataclass(frozen=True)
class ClipEvents:
    """One clip: its events, and the features (D,) that kernel distances compare, by name."""

    path: Path
    match: Match
    features: dict[str, Tensor]


def event_analysis(lanes: int) -> FurtherAnalysis:
    """Return what is found in every clip in which balls bounce in so many lanes."""

    def measure(clip: Clip) -> Arrays:
        features = features_of(clip.video, clip.audio)
        return {
            "in_video": packed(impacts_in_video(clip.video, lanes)),
            "in_audio": packed(impacts_in_audio(clip.audio[0])),
            **{name: vector.numpy() for name, vector in features.items()},
        }

    return FurtherAnalysis(f"bounce-{VERSION}-{lanes}lanes", SHAPE, measure)


def events_of(clip: MeasuredClip, video: MeasuredClip | None = None, audio: MeasuredClip | None = None) -> ClipEvents:
    """Return the events of a clip; a modality that was given to it is measured in the clip that gave it."""
    in_video, in_audio = impacts_of(video or clip, "in_video"), impacts_of(audio or clip, "in_audio")
    features = {name: torch.from_numpy(clip.further[name]) for name in NAMES}
    return ClipEvents(clip.path, match_events(in_video, in_audio), features)


def packed(events: Sequence[Impact]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return events as (N, 3): time, size, material."""
    return np.array([(event.time, event.size, event.material) for event in events], dtype=np.float64).reshape(-1, 3)


def impacts_of(clip: MeasuredClip, name: str) -> list[Impact]:
    """Return the events that were kept of a clip by `packed`, under a name."""
    return [Impact(time, size, int(material)) for time, size, material in clip.further[name].tolist()]


def event_metrics(
    rows: Mapping[str, Sequence[ClipEvents]], given: Collection[str], seed: int, chosen: Collection[str]
) -> dict[str, Any]:
    """Return every figure about events for each row, with its interval; rows of given clips stand by themselves."""
    measures = {row: event_measures([one.match for one in clips]) for row, clips in rows.items()}
    joint = [row for row in rows if row not in given]
    metrics: dict[str, Any] = {}
    for name in (name for name in METRICS if name in chosen and len(joint) > 1):
        metrics[name] = {row: estimate(measures[row][name], seed).as_json() for row in joint}
        if name in COMPARED:
            real, independent, guided = (measures[row][name] for row in ("real", "independent", "guided"))
            metrics[name]["gap_closed"] = gap_closed(real, independent, guided, seed).as_json()
    for row in (row for row in rows if row in given):
        metrics[row] = {name: estimate(measure, seed).as_json() for name, measure in measures[row].items()}
    return metrics


def event_measures(matches: Sequence[Match]) -> dict[str, Measure]:
    """Return the figures about the events of a set of clips, each as sums over clips."""
    return {
        "event_iou": mean_of([match.iou for match in matches]),
        "kind_correlation": Measure(torch.stack([_pair_sums(match) for match in matches]), correlation),
        "material_agreement": Measure(torch.stack([_material_sums(match) for match in matches]), ratio),
        "events_seen": mean_of([float(len(match.video)) for match in matches]),
        "events_heard": mean_of([float(len(match.audio)) for match in matches]),
    }


def material_shares(rows: Mapping[str, Sequence[ClipEvents]], seed: int) -> dict[str, Any]:
    """Return the share of each material among the events seen and heard in each row, with `n` clips that have any.

    It has an interval by clip; without any event there is none, and no figure.
    """
    found: dict[str, Any] = {}
    for row, clips in rows.items():
        for sense, events in (("seen", [c.match.video for c in clips]), ("heard", [c.match.audio for c in clips])):
            counts = torch.tensor([[_count(one, k) for k in range(len(MATERIALS))] for one in events if one])
            by_name = shares(counts.reshape(-1, len(MATERIALS)), MATERIALS, seed)
            found.setdefault(sense, {})[row] = {**by_name, "n": len(counts)}
    return found


def row_of(row: str, clip: ClipEvents) -> dict[str, Any]:
    """Return the line of a clip in per_clip.jsonl: times in seconds, and each pair's size and pitch as powers of 2."""
    match = clip.match
    return {
        "row": row,
        "path": str(clip.path),
        "seen": [round(event.time, 4) for event in match.video],
        "heard": [round(event.time, 4) for event in match.audio],
        "iou": match.iou,
        "pairs": [[round(video.size, 3), round(audio.size, 3)] for video, audio in match.pairs],
        "same_material": [video.material == audio.material for video, audio in match.pairs],
    }


def _count(events: Sequence[Impact], material: int) -> int:
    return sum(event.material == material for event in events)


def _pair_sums(match: Match) -> Tensor:
    """Return what `correlation` needs of one clip's pairs: size in video, and lowness of pitch."""
    pairs = torch.tensor([(video.size, -audio.size) for video, audio in match.pairs], dtype=torch.float64)
    x, y = pairs.reshape(-1, 2).unbind(1)
    return torch.stack([torch.ones_like(x).sum(), x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()])


def _material_sums(match: Match) -> Tensor:
    same = sum(video.material == audio.material for video, audio in match.pairs)
    return torch.tensor([same, len(match.pairs)], dtype=torch.float64)
