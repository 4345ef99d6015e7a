"""Protocol `clips`: rows of clips side by side, with nothing known of what they show.

With a recipe these are held-out real clips, independent and guided samples; without one, whatever folders are named.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mmdisco_cli.assembly import request_of
from mmdisco_cli.data.clips import ClipsDataset
from mmdisco_cli.data.clips import build as build_dataset
from mmdisco_cli.data.options import ClipsOptions
from mmdisco_cli.errors import UsageError
from mmdisco_cli.evaluation.captions import SharedTexts, captioned, share_texts, shown, texts_in
from mmdisco_cli.evaluation.discriminator import METRICS as OF_DISCRIMINATOR
from mmdisco_cli.evaluation.discriminator import measure_discriminator
from mmdisco_cli.evaluation.plot import plot_clips
from mmdisco_cli.evaluation.protocol import Protocol, Report
from mmdisco_cli.evaluation.real_clips import RealSet, halves, open_reference, scanning, shape_of, write_real
from mmdisco_cli.evaluation.samples import how_sampled, require_clips, sampled_rows
from mmdisco_cli.evaluation.tables import tabulate, write_rows
from mmdisco_cli.evaluation.verdict.conclusion import with_differences
from mmdisco_cli.extractors.compat import rounding_lines
from mmdisco_cli.extractors.networks import measure_networks, open_extractors, with_networks
from mmdisco_cli.measures.bootstrap import INTERVAL
from mmdisco_cli.measures.cache import Cache
from mmdisco_cli.measures.clip import ClipShape
from mmdisco_cli.measures.clip_sets import MAY_FAIL, REAL, ClipSet, Measuring, list_clips, measure_clips
from mmdisco_cli.measures.distances import sources
from mmdisco_cli.measures.features import SAMPLE_RATE
from mmdisco_cli.measures.scoring import DISTANCES, Scores, analysis_of, how, score_sets, unusable
from mmdisco_cli.measures.scoring import METRICS as OF_CLIPS
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run import console
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.run.options import EvalOptions

METRICS = (*OF_CLIPS, *OF_DISCRIMINATOR)
ORDER = ("real", "independent", "guided", "samples")
Paths = Mapping[str, Sequence[Path]]
Roots = Mapping[str, Path | None]


@dataclass(frozen=True)
class Rows:
    """Clips by row, those of them that are compared with the reference, and the reference."""

    shown: Mapping[str, ClipSet]
    against: Mapping[str, ClipSet]
    reference: ClipSet


def build() -> Protocol:
    """Return the protocol."""
    return Protocol(METRICS, evaluate, measures_clips=True)


def evaluate(recipe: Recipe, options: EvalOptions, ranks: Ranks) -> Report | None:
    """Measure real, independent and guided clips side by side; ranks but the first only help, and return None.

    Raises:
        UsageError: the recipe's data are not clips, or existing samples have other settings.
        DataError: too few held-out windows, no samples, or clips that cannot be read.
        PluginError, DeviceError, Stopped: as for `mmdisco sample`.
    """
    chosen, folder = chosen_metrics(recipe, options), options.out or Path()
    extractors = open_extractors(options, METRICS)
    shape, scale = shape_of(recipe.request), recipe.sample.scale
    found = list_clips(options.samples)[: recipe.eval.n] if options.samples else None
    held_out = open_held_out(recipe, options, shape)
    sampled = bool(extractors) or not chosen.isdisjoint(OF_CLIPS)
    real, second, shared = _real_rows(recipe, options, held_out, found, sampled=sampled)
    n = shared.n if shared else affordable(len(found) if found else recipe.eval.n, held_out)
    paths: dict[str, Sequence[Path]] = {
        "real": write_real(real, folder / "real", shape.fps, scale, "real clips", ranks)
    }
    reference = write_real(second, folder / "reference", shape.fps, scale, "reference clips", ranks)
    if sampled:
        paths |= sampled_rows(recipe, options, n, found[:n] if found else None, ranks, shared)
    rows = _measured(paths, reference, options, ranks, {"guided": options.samples})
    networks = measure_networks(extractors, rows.shown, rows.against, rows.reference, options, ranks)
    if not ranks.first:
        return None
    scores = score_sets(rows.shown, rows.against, rows.reference.clips, options, chosen)
    scores = with_networks(scores, networks)
    own, lines = measure_discriminator(recipe, chosen, [*paths["real"], *reference])
    metrics = with_differences({**scores.metrics, **own}, scores.clips, options.seed)
    plots = [plot_clips(folder / "clips.png", metrics)]
    how = how_sampled(recipe, options) | ({"captions": shared.line} if shared else {})
    report = _report(n, metrics, scores, rows, options, lines, plots, how)
    return _with_texts(report, paths, shared) if shared else report


def _real_rows(
    recipe: Recipe, options: EvalOptions, held_out: ClipsDataset, found: Sequence[Path] | None, *, sampled: bool
) -> tuple[RealSet, RealSet, SharedTexts | None]:
    """Return the real clips, those that all rows are compared with, and the texts that samples share with the real."""
    if sampled and (windows := captioned(recipe, held_out)):
        shared, second = share_texts(recipe, options, held_out, windows, found)
        return shared.real, second, shared
    most = min(len(found) if found else recipe.eval.n, len(held_out.windows))
    return *halves(held_out, most), None


def _with_texts(report: Report, paths: Paths, shared: SharedTexts) -> Report:
    """Return a report that shows the texts of samples, and each beside the real clip of its text."""
    guided, independent, real = (paths[row] for row in ("guided", "independent", "real"))
    texts = [shown(text) for text in shared.rows]
    prompts = {path: text for row in (guided, independent) for path, text in zip(row, texts, strict=True)}
    beside = dict(zip(guided, real, strict=True)) if shared.agrees else {}
    return replace(report, table=[*report.table, shared.line], prompts=prompts, beside=beside)


def compare_folders(options: EvalOptions, ranks: Ranks) -> Report | None:
    """Measure the clips of --samples, beside those of --independent and --reference where these are given.

    Raises:
        UsageError: no --samples, an unknown rule, or a metric that takes what was not named.
        DataError: a folder without clips, or with too many that cannot be used.
    """
    if options.samples is None:
        raise UsageError("name a recipe, or the clips to measure with --samples DIR")
    _require_what_metrics_take(options)
    extractors = open_extractors(options, METRICS)
    # Beside independent ones, samples are what they are in a recipe's report.
    main = "guided" if options.independent else "samples"
    named = {"real": options.reference, "independent": options.independent, main: options.samples}
    paths = {row: list_clips(folder) for row, folder in named.items() if folder}
    rows = _measured(paths, None, options, ranks, named)
    networks = measure_networks(extractors, rows.shown, rows.against, rows.reference, options, ranks)
    if not ranks.first:
        return None
    chosen = frozenset(options.metrics or OF_CLIPS)
    scores = score_sets(rows.shown, rows.against, rows.reference.clips, options, chosen)
    scores = with_networks(scores, networks)
    n = len(rows.shown[main].clips)
    folders = {row: str(folder) for row, folder in named.items() if folder}
    metrics = with_differences(scores.metrics, scores.clips, options.seed)
    report = _report(n, metrics, scores, rows, options, [], [], {"folders": folders})
    return replace(
        report, prompts={path: text for folder in named.values() if folder for path, text in texts_in(folder)}
    )


def _require_what_metrics_take(options: EvalOptions) -> None:
    for name in options.metrics:
        if name in OF_DISCRIMINATOR:
            raise UsageError(f"--metrics {name}: is of a recipe's discriminator: name it with --recipe")
        if name in DISTANCES and options.reference is None:
            raise UsageError(f"--metrics {name}: is a distance to real clips: name them with --reference DIR")


def chosen_metrics(recipe: Recipe, options: EvalOptions) -> frozenset[str]:
    """Return what to measure: what --metrics names, else all but what takes trained weights that are not there."""
    require_clips(recipe)
    if options.metrics:
        return frozenset(options.metrics)
    if options.samples and recipe.sample.weights is None:
        console.note("the recipe names no trained discriminator: only clips are measured")
        return frozenset(OF_CLIPS)
    return frozenset(METRICS)


def open_held_out(recipe: Recipe, options: EvalOptions, shape: ClipShape) -> ClipsDataset:
    """Return the held-out windows of the recipe's data, or all windows of the clips in --reference.

    Raises:
        UsageError: the recipe's data are not clips.
        DataError: nothing there is usable.
    """
    if options.reference:
        return open_reference(options.reference, shape, options.max_bad)
    if recipe.data is None or not isinstance(recipe.data.options, ClipsOptions):
        raise UsageError("eval.protocol: clips needs the data set clips, or real clips in --reference DIR")
    with scanning(str(recipe.data.options.path)) as show:
        data = build_dataset(recipe.data.options, request_of(recipe), sample_rate=SAMPLE_RATE, progress=show)
    for line in data.report:
        if line.startswith("skipped"):
            console.warn(line)
    return data.split("heldout")


def affordable(wanted: int, held_out: ClipsDataset) -> int:
    """Return how many samples to measure: no more than there are held-out windows."""
    have = len(held_out.windows)
    if have < wanted:
        console.warn(f"{have} held-out windows, so {have} samples a row instead of {wanted}")
    return min(wanted, have)


def _measured(paths: Paths, reference: Sequence[Path] | None, options: EvalOptions, ranks: Ranks, roots: Roots) -> Rows:
    measuring = Measuring(analysis_of(options), Cache(options.cache))

    def measured(row: str, found: Sequence[Path]) -> ClipSet:
        most = options.max_bad if options.max_bad is not None else MAY_FAIL if row in REAL else 0.0
        return measure_clips(found, measuring, row, most, ranks, roots.get(row))

    shown = {row: measured(row, found) for row, found in paths.items()}
    if reference is not None:
        return Rows(shown, shown, measured("reference", reference))
    if "real" not in shown:
        return Rows(shown, {}, ClipSet(()))
    against = {row: found for row, found in shown.items() if row != "real"}
    return Rows(shown, against, shown["real"])


def _report(
    n: int,
    metrics: Mapping[str, Any],
    scores: Scores,
    rows: Rows,
    options: EvalOptions,
    lines: Sequence[str],
    plots: Sequence[Path],
    sampler: Mapping[str, Any],
) -> Report:
    folder = options.out or Path()
    sets = {**rows.shown, "reference": rows.reference}
    columns = [row for row in ORDER if row in rows.shown]
    names = [*OF_CLIPS, *(name for name in metrics if name not in METRICS)]
    table = tabulate(metrics, names, columns, ("ratio",) if "guided" in columns else ())
    protocol = {
        "seed": options.seed,
        "clips": {row: len(found.clips) for row, found in sets.items()},
        "unusable": unusable(rows.shown if rows.reference in rows.shown.values() else sets),
        "interval": INTERVAL,
        "kernel": "(x.y/D + 1)^3, unbiased, error by jackknife, pairs counted once; features scaled by the reference",
        **how(options),
        **sampler,
    }
    files = [write_rows(folder / f"clips.{options.rows}", [clip.values for clip in scores.clips]), *plots]
    return Report(
        n, metrics, protocol, [*table, "", *sources(metrics), *rounding_lines(metrics), "", *lines], files, scores.clips
    )
