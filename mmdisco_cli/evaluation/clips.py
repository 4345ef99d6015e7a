"""Protocol `clips`: real, independent and guided films side by side, with nothing known of what they show."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mmdisco_cli import console
from mmdisco_cli.assembly import request_of
from mmdisco_cli.commands.options import EvalOptions
from mmdisco_cli.data.clips import ClipsDataset, build
from mmdisco_cli.data.media import Clip
from mmdisco_cli.data.options import ClipsOptions
from mmdisco_cli.errors import UsageError
from mmdisco_cli.evaluation.alignment import DEFINITION, Alignment, Tracks, alignments, tracks_of
from mmdisco_cli.evaluation.bootstrap import estimate, mean_of
from mmdisco_cli.evaluation.distances import distances
from mmdisco_cli.evaluation.features import DEFINITIONS, NAMES, SAMPLE_RATE, features_of, stacked
from mmdisco_cli.evaluation.films import MAY_FAIL, Film, Frame, frame_of, measure_films, require_film
from mmdisco_cli.evaluation.films_plot import plot_clips
from mmdisco_cli.evaluation.judging import METRICS as JUDGING
from mmdisco_cli.evaluation.judging import judge_discriminator
from mmdisco_cli.evaluation.real import halves, open_reference, scanning, write_real
from mmdisco_cli.evaluation.report import Report
from mmdisco_cli.evaluation.sampled import found_films, sampled_rows
from mmdisco_cli.evaluation.tabulate import tabulate, write_lines
from mmdisco_cli.recipe_schema import Recipe

ALIGNMENT = ("alignment", "alignment_chance", "alignment_gain", "alignment_lag")
METRICS = (*ALIGNMENT, *NAMES, *JUDGING)


@dataclass(frozen=True)
class Watched:
    """One film: its motion and onsets, and the features that kernel distances compare."""

    film: Film
    tracks: Tracks
    features: dict[str, Tensor]


def evaluate(recipe: Recipe, options: EvalOptions) -> Report:
    """Measure real, independent and guided films side by side.

    Raises:
        UsageError: the recipe's data are not clips, or samples were made otherwise.
        DataError: too few held-out windows, no samples, or films that cannot be read.
        PluginError, DeviceError, Stopped: as for `mmdisco sample`.
    """
    chosen, folder = chosen_metrics(recipe, options), options.out or Path()
    frame, scale = frame_of(recipe.request), recipe.sample.scale
    found = found_films(options.samples, recipe.eval.n) if options.samples else None
    held_out = open_held_out(recipe, options, frame)
    n = affordable(len(found) if found else recipe.eval.n, held_out)
    real, reference = halves(held_out, n)
    films: dict[str, Sequence[Film]] = {"real": write_real(real, folder / "real", frame, scale, "real films")}
    if not chosen.isdisjoint((*ALIGNMENT, *NAMES)):
        films |= sampled_rows(recipe, options, n, found[:n] if found else None)
    watched = {
        row: measure_films(items, frame, watch, row, MAY_FAIL if row == "real" else 0.0) for row, items in films.items()
    }
    aligned = {row: alignments([one.tracks for one in items], float(frame.fps)) for row, items in watched.items()}
    metrics = alignment_metrics(aligned, recipe.eval.seed, chosen)
    second = write_real(reference, folder / "reference", frame, scale, "reference films")
    if not chosen.isdisjoint(NAMES):
        features = stacked([one.features for one in measure_films(second, frame, watch, "reference", MAY_FAIL)])
        rows = {row: stacked([one.features for one in items]) for row, items in watched.items()}
        metrics |= distances(rows, features, chosen)
    table = tabulate(metrics, (*ALIGNMENT, *NAMES), ("real", "independent", "guided"), ("ratio",))
    judged, lines = judge_discriminator(recipe, chosen, [*films["real"], *second])
    metrics |= judged
    lines_of = [row_of(row, *pair) for row in watched for pair in zip(watched[row], aligned[row], strict=True)]
    files = [write_lines(folder / "per_clip.jsonl", lines_of), plot_clips(folder / "clips.png", metrics)]
    return Report(
        n, metrics, protocol(recipe, options, watched, aligned, len(reference.indices)), [*table, "", *lines], files
    )


def chosen_metrics(recipe: Recipe, options: EvalOptions) -> frozenset[str]:
    """Return what to measure: what was asked for, else all but what takes trained weights that are not there."""
    require_film(recipe)
    if options.metrics:
        return frozenset(options.metrics)
    if options.samples and recipe.sample.weights is None:
        console.note("the recipe names no trained discriminator: only films are measured")
        return frozenset((*ALIGNMENT, *NAMES))
    return frozenset(METRICS)


def open_held_out(recipe: Recipe, options: EvalOptions, frame: Frame) -> ClipsDataset:
    """Return the held-out windows of the recipe's data, or all windows of the films in --reference.

    Raises:
        UsageError: the recipe's data are not clips.
        DataError: nothing there is usable.
    """
    if options.reference:
        return open_reference(options.reference, frame)
    if recipe.data is None or not isinstance(recipe.data.options, ClipsOptions):
        raise UsageError("eval.protocol: clips needs the data set clips, or real films in --reference DIR")
    with scanning(str(recipe.data.options.path)) as show:
        data = build(recipe.data.options, request_of(recipe), sample_rate=SAMPLE_RATE, progress=show)
    for line in data.report:
        if line.startswith("skipped"):
            console.warn(line)
    return data.split("heldout")


def affordable(asked: int, held_out: ClipsDataset) -> int:
    """Return how many samples to measure: no more than there are held-out windows."""
    have = len(held_out.windows)
    if have < asked:
        console.warn(f"{have} held-out windows, so {have} samples a row instead of {asked}")
    return min(asked, have)


def watch(film: Film, clip: Clip) -> Watched:
    """Return what is measured of a film."""
    tracks = tracks_of(clip.video, clip.audio, float(clip.fps))
    return Watched(film, tracks, features_of(clip.video, clip.audio))


def alignment_metrics(
    aligned: Mapping[str, Sequence[Alignment | None]], seed: int, chosen: Collection[str]
) -> dict[str, Any]:
    """Return for each row the alignment of films and of mismatched pairs, their difference, and the mean |lag|."""
    each: dict[str, Callable[[Alignment], float]] = {
        "alignment": lambda a: a.value,
        "alignment_chance": lambda a: a.chance,
        "alignment_gain": lambda a: a.value - a.chance,
        "alignment_lag": lambda a: abs(a.lag),
    }
    return {
        name: {
            row: estimate(mean_of([None if one is None else take(one) for one in found]), seed).as_json()
            for row, found in aligned.items()
        }
        for name, take in each.items()
        if name in chosen
    }


def row_of(row: str, one: Watched, aligned: Alignment | None) -> dict[str, Any]:
    """Return the line of a film in per_clip.jsonl; the lag is in seconds, positive where the sound is late."""
    return {
        "row": row,
        "path": str(one.film.path),
        "alignment": aligned and round(aligned.value, 4),
        "lag": aligned and aligned.lag,
        "motion": round(float(one.tracks.motion.mean()), 5),
        "onset": round(float(one.tracks.onset.mean()), 5),
    }


def protocol(
    recipe: Recipe,
    options: EvalOptions,
    watched: Mapping[str, Sequence[Watched]],
    aligned: Mapping[str, Sequence[Alignment | None]],
    reference: int,
) -> dict[str, Any]:
    """Return how everything was measured."""
    config = recipe.sample
    return {
        "seed": recipe.eval.seed,
        "films": {**{row: len(items) for row, items in watched.items()}, "reference": reference},
        "silent_or_still": {row: sum(one is None for one in found) for row, found in aligned.items()},
        "samples": str(options.samples) if options.samples else None,
        "reference": str(options.reference) if options.reference else "held-out",
        "alignment": DEFINITION,
        "interval": "95 %, bootstrap by clip",
        "kernel": "(x.y/D + 1)^3, unbiased, error by jackknife; features scaled by the reference",
        "features": DEFINITIONS,
        "sampler": config.sampler,
        "steps": config.steps,
        "guidance": dict(config.guidance),
        "window": list(config.window),
        "weights": config.weights,
    }
