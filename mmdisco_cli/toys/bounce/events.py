"""Matching of what is seen with what is heard."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mmdisco_cli.toys.bounce.seen import Impact

TOLERANCE = 0.05
"""Half a video frame at 10 per second."""


@dataclass(frozen=True)
class Match:
    """The events of one clip and the pairs among them, each (seen, heard)."""

    seen: Sequence[Impact]
    heard: Sequence[Impact]
    pairs: Sequence[tuple[Impact, Impact]]

    @property
    def iou(self) -> float | None:
        """Matched events over all events; None where nothing is seen and nothing heard."""
        union = len(self.seen) + len(self.heard) - len(self.pairs)
        return len(self.pairs) / union if union else None


def match_events(seen: Sequence[Impact], heard: Sequence[Impact], tolerance: float = TOLERANCE) -> Match:
    """Pair events one to one in order of time, as many as possible within `tolerance` seconds.

    Taking the earliest partner that is close enough is optimal, because both lists are sorted and the tolerance is one
    number.
    """
    pairs, k = [], 0
    for event in seen:
        while k < len(heard) and heard[k].time < event.time - tolerance:
            k += 1
        if k < len(heard) and heard[k].time <= event.time + tolerance:
            pairs.append((event, heard[k]))
            k += 1
    return Match(seen, heard, pairs)


def event_iou(matches: Sequence[Match]) -> float:
    """Return the mean event IoU over the clips that have any event."""
    values = [match.iou for match in matches if match.iou is not None]
    return sum(values) / len(values) if values else float("nan")


def kind_correlation(matches: Sequence[Match]) -> float:
    """Return the correlation of seen size with heard lowness over all matched pairs: 1 where big balls sound low."""
    pairs = [(seen.size, -heard.size) for match in matches for seen, heard in match.pairs]
    return float(torch.corrcoef(torch.tensor(pairs).T)[0, 1]) if len(pairs) > 2 else float("nan")


def material_agreement(matches: Sequence[Match]) -> float:
    """Return the share of matched pairs that look and sound of one material; a third is chance."""
    pairs = [seen.material == heard.material for match in matches for seen, heard in match.pairs]
    return sum(pairs) / len(pairs) if pairs else float("nan")
