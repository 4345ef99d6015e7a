"""All that is measured of sets of clips without any network: alignment, distances to real clips, and their health."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from mmdisco_cli import __version__
from mmdisco_cli.errors import UsageError, did_you_mean
from mmdisco_cli.measures import alignment, lag
from mmdisco_cli.measures.alignment import (
    MOST_PARTNERS,
    RULES,
    Aligned,
    Peaks,
    align_clips,
    alignment_metrics,
    peaks_of,
)
from mmdisco_cli.measures.analysis import Analysis
from mmdisco_cli.measures.clip import MeasuredClip
from mmdisco_cli.measures.clip_sets import ClipSet
from mmdisco_cli.measures.density import DEFINITION
from mmdisco_cli.measures.distances import BUILT_IN, distances
from mmdisco_cli.measures.distances import METRICS as OF_FEATURES
from mmdisco_cli.measures.features import stacked
from mmdisco_cli.measures.frechet import HALVES, SIZES
from mmdisco_cli.measures.health import flags_of, gap_of, health_of
from mmdisco_cli.run.options import EvalOptions

DISTANCES = OF_FEATURES
METRICS = (*alignment.METRICS, *DISTANCES, "health")
PAIRED = ("guided", "independent")
LAST = "flags"
"""Of the columns that every clip has."""
LEAST_HALVED = 8
"""Real clips that it takes to compare one half of them with the other."""


@dataclass(frozen=True)
class ScoredClip:
    """One clip of a row: `values` are its columns in the file of clips, `peaks` are marked on the page."""

    row: str
    clip: MeasuredClip
    peaks: Peaks
    values: Mapping[str, Any]

    @property
    def path(self) -> Path:
        """Return where it lies."""
        return self.clip.path

    @property
    def name(self) -> str:
        """Return what clips that belong together share, whatever their rows."""
        return self.clip.name


@dataclass(frozen=True)
class Scores:
    """What was measured of the rows, and of each of their clips."""

    metrics: Mapping[str, Any]
    clips: Sequence[ScoredClip]


def added(clip: ScoredClip) -> list[str]:
    """Return the columns of a clip that not every clip has."""
    names = list(clip.values)
    return names[names.index(LAST) + 1 :]


def analysis_of(options: EvalOptions) -> Analysis:
    """Return how clips are to be analysed; raise UsageError for a rule of AV-Align that there is not."""
    if options.rule not in RULES:
        raise UsageError(f"--av-align-rule {options.rule}: unknown{did_you_mean(options.rule, RULES)}")
    return Analysis(options.height, options.fps)


def score_sets(
    sets: Mapping[str, ClipSet],
    against: Mapping[str, ClipSet],
    reference: Sequence[MeasuredClip],
    options: EvalOptions,
    chosen: Collection[str],
) -> Scores:
    """Measure rows of clips; those of `against` are the ones compared with the reference."""
    aligned = {row: align_clips(found.clips, options.rule) for row, found in sets.items()}
    metrics = alignment_metrics(aligned, options.seed, chosen)
    if not chosen_distances(chosen).isdisjoint(DISTANCES) and reference:
        rows = {row: features_of_row(row, found.clips) for row, found in against.items() if found.clips}
        table = distances(rows, stacked([one.features for one in reference]), chosen, seed=options.seed)
        if "real" not in rows and len(reference) >= LEAST_HALVED:
            # Nothing but the reference is real: what its halves are apart is the distance that means none.
            one, other = (stacked([clip.features for clip in reference[side::2]]) for side in (0, 1))
            floor = distances({"real": one}, other, chosen, seed=options.seed)
            table = {name: {**floor.get(name, {}), **found} for name, found in table.items()}
        metrics |= table
    if "health" in chosen:
        metrics["health"] = {row: health_of(found.clips, len(found.bad)) for row, found in sets.items()}
    clips = [
        _scored(row, clip, one, options.rule)
        for row, found in sets.items()
        for clip, one in zip(found.clips, aligned[row], strict=True)
    ]
    return Scores(metrics, clips)


def chosen_distances(chosen: Collection[str]) -> set[str]:
    """Return those of the chosen metrics that compare with real clips."""
    return {name for name in DISTANCES if name in chosen}


def features_of_row(row: str, clips: Sequence[MeasuredClip]) -> dict[str, Tensor]:
    """Return features (N, D); those of guided and independent samples by name, so that they pair up."""
    ordered = sorted(clips, key=lambda one: one.name) if row in PAIRED else clips
    return stacked([one.features for one in ordered])


def unusable(sets: Mapping[str, ClipSet]) -> list[dict[str, str]]:
    """Return every clip that was left out, with its reason."""
    return [{"row": row, "path": str(path), "reason": why} for row, found in sets.items() for path, why in found.bad]


def how(options: EvalOptions) -> dict[str, Any]:
    """Return how all of this was measured, for the protocol of a report."""
    return {
        "av_align": {
            "rule": options.rule,
            "shorter_side": options.height or "native",
            "fps": float(options.fps) if options.fps else "native",
            "frames": (
                "the file's own, evenly, those nearest to fps; flow per 1 / fps; a match lies within the longer of both"
                if options.fps
                else "all"
            ),
            "flow": "Farneback 0.5, 3, 15, 3, 5, 1.2",
            "chance": f"frames with the audio of up to {MOST_PARTNERS} other clips",
            "undefined": "no onset and no motion, or fewer than three frames: left out and counted",
        },
        "av_lag": lag.DEFINITION,
        "frechet": (
            f"float64, covariance of N - 1; error: {HALVES} halves of both sets; infinite: {SIZES} subsets of both"
        ),
        "neighbours": DEFINITION,
        "features": {one.key: dict(one.about) for one in BUILT_IN},
        "versions": {
            "mmdisco": __version__,
            **{name: version(name) for name in ("av", "numpy", "opencv-python-headless", "soxr", "torch")},
        },
    }


def _scored(row: str, clip: MeasuredClip, aligned: Aligned, rule: str) -> ScoredClip:
    peaks = peaks_of(clip, rule)
    values = {
        "row": row,
        "path": str(clip.path),
        "name": clip.name,
        "sha256": clip.digest[:16],
        "seconds": round(clip.stop, 4),
        "av_align": aligned.score,
        "av_align_chance": aligned.chance,
        "av_align_gain": aligned.gain,
        "av_lag": aligned.lag,
        "av_correlation": aligned.correlation,
        "onsets": len(peaks.onsets),
        "motion_peaks": len(peaks.motion),
        "motion": round(float(clip.motion.mean()), 4),
        "rms_db": clip.facts["rms_db"],
        "length_gap": round(gap_of(clip), 4),
        LAST: " ".join(flags_of(clip)),
    }
    return ScoredClip(row, clip, peaks, values)
