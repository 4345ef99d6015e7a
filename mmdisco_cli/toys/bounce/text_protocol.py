"""Protocol `bounce-text`: whether the video and the audio follow a caption, beside the events of both.

Samples are made for the captions of held-out clips, in wordings that no clip to train on has, and without any text.
Every figure is read from written .mp4 files; the held-out clips themselves, written alike, are the ceiling.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmdisco_cli.assembly import request_of
from mmdisco_cli.errors import UsageError
from mmdisco_cli.evaluation.protocol import Protocol, Report, Sample
from mmdisco_cli.evaluation.real_clips import RealSet, write_real
from mmdisco_cli.evaluation.samples import draw_clips, how_sampled, in_order, require_clips
from mmdisco_cli.evaluation.tables import tabulate, write_lines
from mmdisco_cli.evaluation.verdict.conclusion import difference_of
from mmdisco_cli.measures.bootstrap import INTERVAL, Measure, estimate, gap_closed
from mmdisco_cli.measures.cache import Cache
from mmdisco_cli.measures.clip_sets import MAY_FAIL, Measuring, measure_clips
from mmdisco_cli.measures.scoring import analysis_of
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run import console
from mmdisco_cli.run.distribution import Ranks, wait_for_all
from mmdisco_cli.run.options import EvalOptions, SampleOptions
from mmdisco_cli.sampling.job import plan_job
from mmdisco_cli.sampling.run import make_samples
from mmdisco_cli.sampling.settings import disagreement
from mmdisco_cli.toys.bounce.caption_following import METRICS as OF_CAPTIONS
from mmdisco_cli.toys.bounce.caption_following import FoundBalls, Kinds, balls_of, caption_analysis, caption_measures
from mmdisco_cli.toys.bounce.clip_events import COMPARED, SHAPE, event_measures
from mmdisco_cli.toys.bounce.clip_events import METRICS as OF_EVENTS
from mmdisco_cli.toys.bounce.dataset import Bounce
from mmdisco_cli.toys.bounce.dataset import build as build_dataset
from mmdisco_cli.toys.bounce.events import TOLERANCE
from mmdisco_cli.toys.bounce.marking import marking_of
from mmdisco_cli.toys.bounce.options import BounceOptions

METRICS = (*OF_CAPTIONS, *OF_EVENTS)
WITH_TEXT = {"independent": True, "guided": False}
WITHOUT_TEXT = {"independent_no_text": True, "guided_no_text": False}
"""Rows of samples, and whether guidance is off."""
ROWS = ("real", *WITH_TEXT, *WITHOUT_TEXT)
FOLDERS = {"independent": "independent-captions", "guided": "captions"}


@dataclass(frozen=True)
class TextRows:
    """What was found in each row of clips, clip i of each beside what the caption of held-out clip i describes."""

    clips: Mapping[str, Sequence[FoundBalls]]
    described: Sequence[Kinds]
    captions: Sequence[str]


def build() -> Protocol:
    """Return the protocol."""
    return Protocol(METRICS, evaluate, takes_samples=False, marking=marking_of)


def evaluate(recipe: Recipe, options: EvalOptions, ranks: Ranks) -> Report | None:
    """Measure real clips and samples of their captions and of no text; ranks but the first only help, and return None.

    Raises:
        UsageError: the recipe's data are not captioned bounce, other samples lie there, or --samples or --reference.
        DataError: clips that cannot be read.
        PluginError, DeviceError, Stopped: as for `mmdisco sample`.
    """
    if options.samples is not None or options.reference is not None:
        raise UsageError("eval.protocol: bounce-text makes its own samples, of the captions of its own clips")
    data, n = heldout_of(recipe), recipe.eval.n
    captions = data.captions(range(n), ("text",))["text"]
    folder = options.out or Path()
    paths: dict[str, Sequence[Path]] = {
        "real": write_real(
            RealSet(data, range(n)), folder / "real", SHAPE.fps, recipe.sample.scale, "real clips", ranks
        )
    }
    for row, independent in WITH_TEXT.items():
        paths[row] = _captioned_samples(recipe, captions, Path("runs") / recipe.name / FOLDERS[row], independent, ranks)
    for row, independent in WITHOUT_TEXT.items():
        paths[row] = draw_clips(recipe, n, independent=independent, ranks=ranks)
    measuring = Measuring(analysis_of(options), Cache(options.cache), caption_analysis(data.options.objects))
    clips = {row: _found(row, found, measuring, ranks) for row, found in paths.items()}
    rows = TextRows(clips, [data.content(i) for i in range(n)], captions)
    return _report(recipe, options, rows) if ranks.first else None


def heldout_of(recipe: Recipe) -> Bounce:
    """Return the held-out clips of a recipe; raise UsageError where its data are not bounce with captions."""
    if recipe.data is None or not isinstance(recipe.data.options, BounceOptions) or not recipe.data.options.captions:
        raise UsageError("eval.protocol: bounce-text needs the data set bounce with data.captions: true")
    require_clips(recipe)
    return build_dataset(recipe.data.options, request_of(recipe)).split("heldout")


def _captioned_samples(
    recipe: Recipe, captions: Sequence[str], folder: Path, independent: bool, ranks: Ranks
) -> Sequence[Path]:
    """Return a sample for each caption, making those that are missing."""
    options = SampleOptions(
        n=len(captions), seed=recipe.eval.seed, independent=independent, prompts=tuple(captions), out=folder
    )
    job = plan_job(recipe, options)
    if clause := disagreement(job.directory, job.settings):
        raise UsageError(f"{job.directory}: holds samples made with {clause} (remove them to make these)")
    if ranks.first:
        console.note(f"{'independent' if independent else 'guided'} samples of captions in {folder}")
    make_samples(job)
    wait_for_all(ranks)
    return [folder / row["path"] for row in in_order(list(job.done().values()))]


def _found(row: str, paths: Sequence[Path], measuring: Measuring, ranks: Ranks) -> list[FoundBalls]:
    """Return what each clip holds, in the order in which they were made."""
    clips = measure_clips(paths, measuring, row, MAY_FAIL if row == "real" else 0.0, ranks).by_path()
    return [balls_of(clips[path]) for path in paths]


def _report(recipe: Recipe, options: EvalOptions, rows: TextRows) -> Report:
    metrics = text_metrics(rows, recipe.eval.seed)
    folder = options.out or Path()
    table = tabulate(metrics, METRICS, ROWS, ("gap_closed",))
    protocol = {
        "seed": recipe.eval.seed,
        "tolerance_seconds": TOLERANCE,
        "interval": INTERVAL,
        "captions": "of held-out clips, in held-out wordings; rows without text are held to them too, as chance",
        **how_sampled(recipe, options),
    }
    files = [write_lines(folder / "per_clip.jsonl", per_clip(rows))]
    return Report(len(rows.described), metrics, protocol, table, files, samples=shown(rows))


def text_metrics(rows: TextRows, seed: int) -> dict[str, Any]:
    """Return every figure for each row with its interval, and of events the gap that guidance closes under text."""
    found = {row: _measures(clips, rows.described) for row, clips in rows.clips.items()}
    metrics: dict[str, Any] = {
        name: {row: estimate(own[name], seed).as_json() for row, own in found.items()} for name in METRICS
    }
    for name in COMPARED:
        real, independent, guided = (found[row][name] for row in ("real", "independent", "guided"))
        metrics[name]["gap_closed"] = gap_closed(real, independent, guided, seed).as_json()
    iou = zip(*([one.match.iou for one in rows.clips[row]] for row in ("independent", "guided")), strict=True)
    metrics["event_iou"]["difference"] = difference_of(list(iou), seed)
    return metrics


def _measures(clips: Sequence[FoundBalls], described: Sequence[Kinds]) -> dict[str, Measure]:
    return caption_measures(clips, described) | event_measures([clip.match for clip in clips])


def shown(rows: TextRows) -> list[Sample]:
    """Return the clips for the page, those of one caption beside each other, with whether each follows it."""
    both = ("audio", "video")
    return [
        Sample(
            row,
            f"caption {place}",
            dict.fromkeys(both, clip.path),
            dict(zip(both, both, strict=True)),
            {name: float(clip.follows(described)[name]) for name in ("text_seen", "text_heard")}
            | {"event_iou": clip.match.iou},
            caption,
        )
        for row, clips in rows.clips.items()
        for place, (clip, described, caption) in enumerate(zip(clips, rows.described, rows.captions, strict=True))
    ]


def per_clip(rows: TextRows) -> list[dict[str, Any]]:
    """Return a line for each clip: its caption, the balls described, seen and heard by kind, and its event IoU."""
    return [
        {
            "row": row,
            "path": str(clip.path),
            "caption": caption,
            "described": [str(kind) for kind in described],
            "seen": [str(kind) for kind in clip.seen],
            "heard": [str(kind) for kind in clip.heard],
            "iou": clip.match.iou,
        }
        for row, clips in rows.clips.items()
        for clip, caption, described in zip(clips, rows.captions, rows.described, strict=True)
    ]
