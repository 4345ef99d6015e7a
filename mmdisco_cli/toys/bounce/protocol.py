"""Protocol `bounce`: events in video against those in audio, one by one, in real, independent and guided clips.

Every figure is read from written .mp4 files; real ones are written through the same path, and are the ceiling.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmdisco_cli.assembly import request_of
from mmdisco_cli.errors import UsageError
from mmdisco_cli.evaluation.discriminator import METRICS as OF_DISCRIMINATOR
from mmdisco_cli.evaluation.discriminator import measure_discriminator
from mmdisco_cli.evaluation.protocol import Protocol, Report
from mmdisco_cli.evaluation.real_clips import RealSet, halves, open_reference, write_real
from mmdisco_cli.evaluation.samples import draw_given, how_sampled, require_clips, sampled_rows
from mmdisco_cli.evaluation.tables import tabulate, write_lines, write_rows
from mmdisco_cli.evaluation.verdict.conclusion import with_differences
from mmdisco_cli.extractors.compat import rounding_lines
from mmdisco_cli.extractors.networks import Networks, measure_networks, open_extractors, with_networks
from mmdisco_cli.measures.bootstrap import INTERVAL
from mmdisco_cli.measures.cache import Cache
from mmdisco_cli.measures.clip_sets import MAY_FAIL, REAL, ClipSet, Measuring, list_clips, measure_clips
from mmdisco_cli.measures.distances import distances, sources
from mmdisco_cli.measures.features import DEFINITIONS, stacked
from mmdisco_cli.measures.scoring import DISTANCES, ScoredClip, analysis_of, how, score_sets, unusable
from mmdisco_cli.measures.scoring import METRICS as OF_CLIPS
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run import console
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.run.options import EvalOptions
from mmdisco_cli.toys.bounce.clip_events import METRICS as OF_EVENTS
from mmdisco_cli.toys.bounce.clip_events import (
    SHAPE,
    ClipEvents,
    event_analysis,
    event_metrics,
    events_of,
    material_shares,
    row_of,
)
from mmdisco_cli.toys.bounce.dataset import build as build_dataset
from mmdisco_cli.toys.bounce.events import TOLERANCE, Match
from mmdisco_cli.toys.bounce.marking import marking_of
from mmdisco_cli.toys.bounce.options import BounceOptions
from mmdisco_cli.toys.bounce.plot import plot_bounce

GIVEN = {"given_video": "video", "given_audio": "audio"}
CLASSES = "material_share"
METRICS = (*OF_EVENTS, CLASSES, *OF_CLIPS, *GIVEN, *OF_DISCRIMINATOR)
COMPARED_ROWS = ("real", "independent", "guided")
REFERENCE_FROM = 1 << 20
"""The first held-out clip of the set that kernel distances refer to, far from those of the row `real`."""
Paths = Mapping[str, Sequence[Path]]


@dataclass(frozen=True)
class Rows:
    """Measured clips by row, and the events of these and of given ones, in the order in which they were made.

    `reference` is what they are compared with, empty where nothing is, `reference_events` the same in order.
    """

    sets: Mapping[str, ClipSet]
    events: Mapping[str, Sequence[ClipEvents]]
    reference: ClipSet
    reference_events: Sequence[ClipEvents]


def build() -> Protocol:
    """Return the protocol."""
    return Protocol(METRICS, evaluate, measures_clips=True, marking=marking_of)


def evaluate(recipe: Recipe, options: EvalOptions, ranks: Ranks) -> Report | None:
    """Measure real, independent and guided clips side by side; ranks but the first only help, and return None.

    Raises:
        UsageError: the recipe's data are not bounce, or existing samples have other settings.
        DataError: no samples, or clips that cannot be read.
        PluginError, DeviceError, Stopped: as for `mmdisco sample`.
    """
    if options.max_bad is not None:
        raise UsageError("--max-bad: the samples of eval.protocol: bounce have to be whole")
    lanes = lanes_of(recipe)
    chosen = chosen_metrics(recipe, options)
    extractors = open_extractors(options, METRICS)
    found = list_clips(options.samples)[: recipe.eval.n] if options.samples else None
    n = len(found) if found else recipe.eval.n
    compared = bool(extractors) or not chosen.isdisjoint(DISTANCES)
    paths, reference = _real_paths(recipe, options, n, compared, ranks)
    if extractors or not chosen.isdisjoint((*OF_EVENTS, CLASSES, *OF_CLIPS)):
        paths |= sampled_rows(recipe, options, n, found, ranks)
    measuring = Measuring(analysis_of(options), Cache(options.cache), event_analysis(lanes))
    rows = _measured(recipe, options, chosen, paths, reference, measuring, ranks)
    networks = Networks()
    if extractors:
        networks = measure_networks(extractors, rows.sets, rows.sets, rows.reference, options, ranks)
    return _report(recipe, options, chosen, n, paths["real"], rows, networks) if ranks.first else None


def lanes_of(recipe: Recipe) -> int:
    """Return the lanes of a recipe's balls; raise UsageError where its data are not bounce."""
    if recipe.data is None or not isinstance(recipe.data.options, BounceOptions):
        raise UsageError("eval.protocol: bounce needs the data set bounce")
    require_clips(recipe)
    return build_dataset(recipe.data.options, request_of(recipe)).options.objects


def chosen_metrics(recipe: Recipe, options: EvalOptions) -> frozenset[str]:
    """Return what to measure: what --metrics names, else all but what takes weights or samples that nothing names."""
    if options.metrics:
        return frozenset(options.metrics)
    chosen = {*OF_EVENTS, CLASSES, *OF_CLIPS, *OF_DISCRIMINATOR} | ({*GIVEN} if recipe.eval.given else set())
    if options.samples and recipe.sample.weights is None:
        console.note("the recipe names no trained discriminator: only clips are measured")
        chosen -= {*OF_DISCRIMINATOR, *GIVEN}
    return frozenset(chosen)


def real_sets(recipe: Recipe, options: EvalOptions, n: int) -> tuple[RealSet, RealSet]:
    """Return two disjoint sets of held-out clips, or of windows of the clips in --reference."""
    assert recipe.data is not None
    if options.reference:
        return halves(open_reference(options.reference, SHAPE), n)
    data = build_dataset(recipe.data.options, request_of(recipe)).split("heldout")
    return RealSet(data, range(n)), RealSet(data, range(REFERENCE_FROM, REFERENCE_FROM + n))


def _real_paths(
    recipe: Recipe, options: EvalOptions, n: int, compared: bool, ranks: Ranks
) -> tuple[dict[str, Sequence[Path]], Sequence[Path]]:
    """Write the row of real clips, and the reference where anything is compared with it."""
    folder, scale = options.out or Path(), recipe.sample.scale
    real, second = real_sets(recipe, options, n)
    paths = write_real(real, folder / "real", SHAPE.fps, scale, "real clips", ranks)
    if not compared:
        return {"real": paths}, ()
    return {"real": paths}, write_real(second, folder / "reference", SHAPE.fps, scale, "reference clips", ranks)


def _measured(
    recipe: Recipe,
    options: EvalOptions,
    chosen: Collection[str],
    paths: Paths,
    reference: Sequence[Path],
    measuring: Measuring,
    ranks: Ranks,
) -> Rows:
    """Draw what is still missing, and decode every clip once."""

    def measured(row: str, found: Sequence[Path]) -> ClipSet:
        root = options.samples if row == "guided" else None
        return measure_clips(found, measuring, row, MAY_FAIL if row in REAL else 0.0, ranks, root)

    sets = {row: measured(row, found) for row, found in paths.items()}
    events = {row: _in_order(found, sets[row]) for row, found in paths.items()}
    for row in (row for row in GIVEN if row in chosen):
        folder = (options.out or Path()) / row.replace("_", "-")
        given = draw_given(recipe, GIVEN[row], paths["real"], folder, ranks)
        events[row] = _given_events(given, measured(row, list(given)), sets["real"], GIVEN[row])
    refers = measured("reference", reference) if reference else ClipSet(())
    return Rows(sets, events, refers, _in_order(reference, refers))


def _in_order(paths: Sequence[Path], clips: ClipSet) -> list[ClipEvents]:
    """Return the events of a set in the order in which its clips were made: those of one place share their noise."""
    found = clips.by_path()
    return [events_of(found[path]) for path in paths if path in found]


def _given_events(given: Mapping[Path, Path], clips: ClipSet, real: ClipSet, modality: str) -> list[ClipEvents]:
    """Return the events of samples, in the given modality those of the clip that gave it."""
    found, givers = clips.by_path(), real.by_path()
    pairs = [(found[path], givers[source]) for path, source in given.items() if source in givers]
    return [events_of(sample, **{modality: giver}) for sample, giver in pairs]


def _report(
    recipe: Recipe,
    options: EvalOptions,
    chosen: Collection[str],
    n: int,
    real: Sequence[Path],
    rows: Rows,
    networks: Networks,
) -> Report:
    folder, seed = options.out or Path(), recipe.eval.seed
    metrics = event_metrics(rows.events, GIVEN, seed, chosen)
    if CLASSES in chosen:
        metrics[CLASSES] = material_shares({row: rows.events[row] for row in COMPARED_ROWS}, seed)
    scores = score_sets(rows.sets, {}, (), options, chosen)
    metrics |= scores.metrics
    metrics |= _distances(rows, chosen, options.seed)
    metrics |= networks.metrics
    own, lines = measure_discriminator(recipe, chosen, real)
    table, about = tables(metrics, networks.metrics), [*sources(metrics), *rounding_lines(metrics), ""]
    metrics |= own
    clips = with_events(with_networks(scores, networks).clips, rows.events)
    metrics = with_differences(metrics, clips, seed)
    per_clip = [row_of(row, one) for row, found in rows.events.items() for one in found]
    matches = {row: [one.match for one in found] for row, found in rows.events.items()}
    files = [
        write_lines(folder / "per_clip.jsonl", per_clip),
        plot_bounce(folder / "bounce.png", matches, metrics),
        write_rows(folder / f"clips.{options.rows}", [clip.values for clip in clips]),
    ]
    return Report(n, metrics, protocol(recipe, options, rows), [*table, *about, *lines], files, clips)


def _distances(rows: Rows, chosen: Collection[str], seed: int) -> dict[str, Any]:
    """Return the chosen distances from the reference, of features of the frames and audio that detectors get too."""
    if set(DISTANCES).isdisjoint(chosen):
        return {}
    compared = {row: stacked([one.features for one in rows.events[row]]) for row in COMPARED_ROWS}
    return distances(compared, stacked([one.features for one in rows.reference_events]), chosen, seed=seed)


def with_events(clips: Sequence[ScoredClip], events: Mapping[str, Sequence[ClipEvents]]) -> list[ScoredClip]:
    """Return clips whose columns also hold their events, and whose marks are these."""
    matches = {(row, one.path): one.match for row, found in events.items() for one in found}
    return [_with_events(clip, matches[clip.row, clip.path]) for clip in clips]


def _with_events(clip: ScoredClip, match: Match) -> ScoredClip:
    counted = {"event_iou": match.iou, "events_seen": len(match.video), "events_heard": len(match.audio)}
    onsets, motion = ([event.time for event in events] for events in (match.audio, match.video))
    return replace(clip, values={**clip.values, **counted}, peaks=replace(clip.peaks, onsets=onsets, motion=motion))


def tables(metrics: Mapping[str, Any], more: Collection[str] = ()) -> list[str]:
    """Return all that was measured of clips as lines, `more` last; given clips have a table of their own."""
    names = (*OF_EVENTS, *OF_CLIPS, *more)
    joint = tabulate(metrics, names, COMPARED_ROWS, ("gap_closed", "ratio"))
    rows = [row for row in GIVEN if row in metrics]
    turned = {name: {row: metrics[row][name] for row in rows} for name in OF_EVENTS}
    given = tabulate(turned, OF_EVENTS, rows)
    return [line for table in (joint, given) if table for line in (*table, "")]


def protocol(recipe: Recipe, options: EvalOptions, rows: Rows) -> dict[str, Any]:
    """Return how everything was measured."""
    return {
        "seed": recipe.eval.seed,
        "clips": {row: len(found) for row, found in rows.events.items()},
        "without_events": {row: sum(one.match.iou is None for one in found) for row, found in rows.events.items()},
        "tolerance_seconds": TOLERANCE,
        "interval": INTERVAL,
        "kernel": "(x.y/D + 1)^3, unbiased, error by jackknife, pairs counted once; features scaled by the reference",
        **how(options),
        "features": DEFINITIONS,
        "unusable": unusable(rows.sets),
        **how_sampled(recipe, options),
    }
