"""Protocol `bounce`: what is seen against what is heard, event by event, in real, independent and guided films.

Every figure is read from written .mp4 files; real ones are written through the same path, and are the ceiling.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.assembly import request_of
from mmdisco_cli.data.media import Clip
from mmdisco_cli.errors import UsageError
from mmdisco_cli.evaluation.discriminator import METRICS as JUDGING
from mmdisco_cli.evaluation.discriminator import judge_discriminator
from mmdisco_cli.evaluation.films import MAY_FAIL, Film, Frame, measure_films, require_film
from mmdisco_cli.evaluation.real import RealSet, halves, open_reference, write_real
from mmdisco_cli.evaluation.report import Report
from mmdisco_cli.evaluation.sampled import draw_given, found_films, how_sampled, sampled_rows
from mmdisco_cli.evaluation.tabulate import tabulate, write_lines, write_rows
from mmdisco_cli.extractors.networks import Networks, measure_networks, open_extractors, with_networks
from mmdisco_cli.measures.alignment import METRICS as ALIGNMENT
from mmdisco_cli.measures.bootstrap import Measure, correlation, estimate, gap_closed, mean_of, ratio
from mmdisco_cli.measures.cache import Cache
from mmdisco_cli.measures.clip_sets import ClipSet, watch_all
from mmdisco_cli.measures.compat import rounding_lines
from mmdisco_cli.measures.distances import distances, sources
from mmdisco_cli.measures.features import DEFINITIONS, features_of, stacked
from mmdisco_cli.measures.scoring import DISTANCES, ScoredClip, analysis_of, how, score_sets, unusable
from mmdisco_cli.measures.scoring import METRICS as SCORING
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run import console
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.run.options import EvalOptions
from mmdisco_cli.toys.bounce.dataset import build
from mmdisco_cli.toys.bounce.events import TOLERANCE, Match, match_events
from mmdisco_cli.toys.bounce.heard import heard_strikes
from mmdisco_cli.toys.bounce.options import BounceOptions
from mmdisco_cli.toys.bounce.plot import plot_bounce
from mmdisco_cli.toys.bounce.render import FPS, FRAMES
from mmdisco_cli.toys.bounce.scene import SIZE
from mmdisco_cli.toys.bounce.seen import seen_impacts

EVENTS = ("event_iou", "kind_correlation", "material_agreement", "events_seen", "events_heard")
COMPARED = ("event_iou", "kind_correlation")
GIVEN = {"given_video": "video", "given_audio": "audio"}
WATCHED = (*ALIGNMENT, "health")
REAL = ("real", "reference")
METRICS = (*EVENTS, *SCORING, *GIVEN, *JUDGING)
REFERENCE_FROM = 1 << 20
"""The first held-out clip of the set that kernel distances refer to, beyond those of the row `real`."""


@dataclass(frozen=True)
class Watched:
    """One film: its events, and the features that kernel distances compare."""

    film: Film
    match: Match
    features: dict[str, Tensor]


def evaluate(recipe: Recipe, options: EvalOptions, ranks: Ranks) -> Report | None:
    """Measure real, independent and guided films side by side; ranks but the first only help, and return None.

    Raises:
        UsageError: the recipe's data are not bounce, or samples were made otherwise.
        DataError: no samples, or films that cannot be read.
        PluginError, DeviceError, Stopped: as for `mmdisco sample`.
    """
    frame, lanes = checked(recipe)
    chosen, folder = chosen_metrics(recipe, options), options.out or Path()
    extractors = open_extractors(options, METRICS)
    found = found_films(options.samples, recipe.eval.n) if options.samples else None
    n = len(found) if found else recipe.eval.n
    real, reference = real_sets(recipe, options, frame, n)
    scale = recipe.sample.scale
    films: dict[str, Sequence[Film]] = {"real": write_real(real, folder / "real", frame, scale, "real films", ranks)}
    if extractors or not chosen.isdisjoint((*EVENTS, *SCORING)):
        films |= sampled_rows(recipe, options, n, found, ranks)
    sets = watch_rows(films, options, ranks) if extractors or not chosen.isdisjoint(WATCHED) else {}
    networks = Networks()
    if extractors:
        second = write_real(reference, folder / "reference", frame, scale, "reference films", ranks)
        apart = watch_rows({"reference": second}, options, ranks)["reference"]
        networks = measure_networks(extractors, sets, sets, apart, options, ranks)
    films |= {
        row: draw_given(recipe, modality, films["real"], folder / row.replace("_", "-"), ranks)
        for row, modality in GIVEN.items()
        if row in chosen
    }
    if not ranks.first:
        return None
    watched = {
        row: measure_films(items, frame, partial(watch, lanes=lanes), row, MAY_FAIL if row == "real" else 0.0)
        for row, items in films.items()
    }
    metrics = event_metrics(watched, recipe.eval.seed, chosen)
    scores = score_sets(sets, {}, (), options, chosen)
    metrics |= scores.metrics
    if not chosen.isdisjoint(DISTANCES):
        second = write_real(reference, folder / "reference", frame, scale, "reference films")
        features = stacked(measure_films(second, frame, appearance, "reference", MAY_FAIL))
        rows = {row: stacked([one.features for one in watched[row]]) for row in ("real", "independent", "guided")}
        metrics |= distances(rows, features, chosen, seed=options.seed)
    metrics |= networks.metrics
    judged, lines = judge_discriminator(recipe, chosen, films["real"])
    table, told = tables(metrics, networks.metrics), [*sources(metrics), *rounding_lines(metrics), ""]
    metrics |= judged
    files = [
        write_lines(folder / "per_clip.jsonl", [row_of(row, one) for row, items in watched.items() for one in items]),
        plot_bounce(folder / "bounce.png", {r: [o.match for o in w] for r, w in watched.items()}, metrics),
    ]
    clips = with_events(with_networks(scores, networks).clips, watched)
    if clips:
        files.append(write_rows(folder / f"clips.{options.rows}", [clip.values for clip in clips]))
    return Report(n, metrics, protocol(recipe, options, sets, watched), [*table, *told, *lines], files, clips)


def watch_rows(films: Mapping[str, Sequence[Film]], options: EvalOptions, ranks: Ranks) -> dict[str, ClipSet]:
    """Return what can be told of films of any kind, by row."""
    analysis, cache = analysis_of(options), Cache(options.cache)
    return {
        row: watch_all([film.path for film in items], analysis, cache, row, MAY_FAIL if row in REAL else 0.0, ranks)
        for row, items in films.items()
    }


def with_events(clips: Sequence[ScoredClip], watched: Mapping[str, Sequence[Watched]]) -> list[ScoredClip]:
    """Return clips whose columns also tell of their events, and whose marks are these."""
    matches = {(row, one.film.path): one.match for row, items in watched.items() for one in items}
    return [_with_events(clip, matches.get((clip.row, clip.path))) for clip in clips]


def _with_events(clip: ScoredClip, match: Match | None) -> ScoredClip:
    if match is None:
        return clip
    counted = {"event_iou": match.iou, "events_seen": len(match.seen), "events_heard": len(match.heard)}
    heard, seen = ([event.time for event in events] for events in (match.heard, match.seen))
    return replace(clip, values={**clip.values, **counted}, peaks=replace(clip.peaks, heard=heard, seen=seen))


def checked(recipe: Recipe) -> tuple[Frame, int]:
    """Return the shape in which films are measured and the lanes of their balls; raise UsageError for other recipes."""
    if recipe.data is None or not isinstance(recipe.data.options, BounceOptions):
        raise UsageError("eval.protocol: bounce needs the data set bounce")
    require_film(recipe)
    data = build(recipe.data.options, request_of(recipe))
    return Frame(FRAMES, Fraction(FPS), SIZE, SIZE), data.options.objects


def chosen_metrics(recipe: Recipe, options: EvalOptions) -> frozenset[str]:
    """Return what to measure: what was asked for, else all but what takes weights or samples that nobody asked for."""
    if options.metrics:
        return frozenset(options.metrics)
    chosen = {*EVENTS, *SCORING, *JUDGING} | ({*GIVEN} if recipe.eval.given else set())
    if options.samples and recipe.sample.weights is None:
        console.note("the recipe names no trained discriminator: only films are measured")
        chosen -= {*JUDGING, *GIVEN}
    return frozenset(chosen)


def real_sets(recipe: Recipe, options: EvalOptions, frame: Frame, n: int) -> tuple[RealSet, RealSet]:
    """Return two disjoint sets of held-out clips, or of windows of the films in --reference."""
    assert recipe.data is not None
    if options.reference:
        return halves(open_reference(options.reference, frame), n)
    data = build(recipe.data.options, request_of(recipe)).split("heldout")
    return RealSet(data, range(n)), RealSet(data, range(REFERENCE_FROM, REFERENCE_FROM + n))


def watch(film: Film, clip: Clip, *, lanes: int) -> Watched:
    """Return the events and features of a film."""
    match = match_events(seen_impacts(clip.video, lanes), heard_strikes(clip.audio[0]))
    return Watched(film, match, appearance(film, clip))


def appearance(film: Film, clip: Clip) -> dict[str, Tensor]:
    """Return the features of a film."""
    return features_of(clip.video, clip.audio)


def event_metrics(watched: Mapping[str, Sequence[Watched]], seed: int, chosen: Collection[str]) -> dict[str, Any]:
    """Return every figure about events for each row, with its interval; rows of given films stand by themselves."""
    measures = {row: event_measures([one.match for one in items]) for row, items in watched.items()}
    joint = [row for row in watched if row not in GIVEN]
    metrics: dict[str, Any] = {}
    for name in (name for name in EVENTS if name in chosen and len(joint) > 1):
        metrics[name] = {row: estimate(measures[row][name], seed).as_json() for row in joint}
        if name in COMPARED:
            real, independent, guided = (measures[row][name] for row in ("real", "independent", "guided"))
            metrics[name]["gap_closed"] = gap_closed(real, independent, guided, seed).as_json()
    for row in (row for row in watched if row in GIVEN):
        metrics[row] = {name: estimate(measure, seed).as_json() for name, measure in measures[row].items()}
    return metrics


def event_measures(matches: Sequence[Match]) -> dict[str, Measure]:
    """Return the figures about the events of a set of clips, each as sums over clips."""
    return {
        "event_iou": mean_of([match.iou for match in matches]),
        "kind_correlation": Measure(torch.stack([_pair_sums(match) for match in matches]), correlation),
        "material_agreement": Measure(torch.stack([_material_sums(match) for match in matches]), ratio),
        "events_seen": mean_of([float(len(match.seen)) for match in matches]),
        "events_heard": mean_of([float(len(match.heard)) for match in matches]),
    }


def tables(metrics: Mapping[str, Any], more: Collection[str] = ()) -> list[str]:
    """Return all that was measured of films as lines, `more` last; given films have a table of their own."""
    names = (*EVENTS, *SCORING, *more)
    joint = tabulate(metrics, names, ("real", "independent", "guided"), ("gap_closed", "ratio"))
    rows = [row for row in GIVEN if row in metrics]
    turned = {name: {row: metrics[row][name] for row in rows} for name in EVENTS}
    given = tabulate(turned, EVENTS, rows)
    return [line for table in (joint, given) if table for line in (*table, "")]


def row_of(row: str, one: Watched) -> dict[str, Any]:
    """Return the line of a film in per_clip.jsonl: times in seconds, and each pair's size and pitch as powers of 2."""
    match = one.match
    return {
        "row": row,
        "path": str(one.film.path),
        "seen": [round(event.time, 4) for event in match.seen],
        "heard": [round(event.time, 4) for event in match.heard],
        "iou": match.iou,
        "pairs": [[round(seen.size, 3), round(heard.size, 3)] for seen, heard in match.pairs],
        "same_material": [seen.material == heard.material for seen, heard in match.pairs],
    }


def protocol(
    recipe: Recipe, options: EvalOptions, sets: Mapping[str, ClipSet], watched: Mapping[str, Sequence[Watched]]
) -> dict[str, Any]:
    """Return how everything was measured."""
    return {
        "seed": recipe.eval.seed,
        "films": {row: len(items) for row, items in watched.items()},
        "without_events": {row: sum(one.match.iou is None for one in items) for row, items in watched.items()},
        "tolerance_seconds": TOLERANCE,
        "interval": "95 %, bootstrap by clip",
        "kernel": "(x.y/D + 1)^3, unbiased, error by jackknife, pairs counted once; features scaled by the reference",
        **how(options),
        "features": DEFINITIONS,
        "unusable": unusable(sets),
        **how_sampled(recipe, options),
    }


def _pair_sums(match: Match) -> Tensor:
    """Return what `correlation` needs of one clip's pairs: size seen, and lowness heard."""
    pairs = torch.tensor([(seen.size, -heard.size) for seen, heard in match.pairs], dtype=torch.float64).reshape(-1, 2)
    x, y = pairs.unbind(1)
    return torch.stack([torch.ones_like(x).sum(), x.sum(), y.sum(), (x * x).sum(), (y * y).sum(), (x * y).sum()])


def _material_sums(match: Match) -> Tensor:
    same = sum(seen.material == heard.material for seen, heard in match.pairs)
    return torch.tensor([same, len(match.pairs)], dtype=torch.float64)
