"""`mmdisco eval`: hand the recipe to its protocol, keep and show what it found."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from mmdisco_cli.data.manifest import read_settings
from mmdisco_cli.errors import UsageError
from mmdisco_cli.evaluation.html_report import REPORT_FILE, write_report
from mmdisco_cli.evaluation.report import METRICS_FILE, Report
from mmdisco_cli.evaluation.verdict import verdict_of
from mmdisco_cli.measures.picked import require_known
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run import console
from mmdisco_cli.run.distribution import Ranks, joined_ranks
from mmdisco_cli.run.files import make_directory, write_json
from mmdisco_cli.run.options import EvalOptions

PROTOCOLS = {
    "bounce": "mmdisco_cli.toys.bounce.protocol",
    "clips": "mmdisco_cli.evaluation.clips",
    "compare": "mmdisco_cli.evaluation.compare",
    "features": "mmdisco_cli.evaluation.features_files",
    "gaussians": "mmdisco_cli.toys.gaussians.protocol",
    "gaussians-ablation": "mmdisco_cli.toys.gaussians.ablation",
}
"""Modules that have METRICS, the names of what they measure, and evaluate(recipe, options) -> Report.

Those of `FILMS` also take the ranks, of which all but the first only help.

The options they get always name a directory that exists, in which they may write plots.
"""

FILMS = ("bounce", "clips")
ALONE = {"clips": "eval", "compare": "compare", "features": "features"}
"""Where what takes no recipe writes in runs/: none in the place of another."""


def evaluate(recipe: Recipe | None, options: EvalOptions) -> None:
    """Measure what the recipe's protocol measures, or clips without one, by all ranks together.

    Print one JSON object, or the path of the same on disk.

    Raises:
        UsageError: a metric that the protocol does not have, or options that do not fit.
        DataError, PluginError, DeviceError: models or samples cannot be used.
    """
    alone = "compare" if options.compare else "features" if options.features else "clips"
    name = recipe.eval.protocol if recipe else alone
    module = import_module(PROTOCOLS[name])
    if not options.extractors:  # whose own metrics are known once they are open
        require_known(options.metrics, module.METRICS, of_films=name in FILMS)
    directory = options.out or (Path("runs") / recipe.name / "eval" if recipe else Path("runs") / ALONE[name])
    if directory.resolve() in {run.resolve() for run in options.compare or ()}:
        raise UsageError(f"--out {directory}: is one of the runs that are compared, whose figures would be lost")
    make_directory(directory)
    if options.rows == "parquet" and find_spec("pyarrow") is None:
        raise UsageError("--rows parquet needs pyarrow: pip install pyarrow")
    if options.extractors and name not in FILMS:
        raise UsageError(f"--extractor measures clips: of folders, or by the protocol {' or '.join(FILMS)}")
    if options.max_bad is not None and name == "bounce":
        raise UsageError("--max-bad: the samples of eval.protocol: bounce have to be whole")
    if options.compat and not (options.extractors or options.features):
        raise UsageError("--compat goes with distances of an --extractor or of --features: name one")
    _require_rows_as_called(recipe, options)
    options = replace(options, out=directory, seed=recipe.eval.seed if recipe else options.seed)
    with joined_ranks(torch.device("cpu")) as ranks:
        report = _measured(module, recipe, options, ranks)
        if report is not None:
            _show(as_json(recipe, name, report, options.metrics), report, options)


def _require_rows_as_called(recipe: Recipe | None, options: EvalOptions) -> None:
    """Refuse samples that a report would call guided though they are independent, or the other way round."""
    films = recipe is not None and recipe.eval.protocol in FILMS
    guided = options.samples if films or options.independent else None
    for option, folder, independent in (("--samples", guided, False), ("--independent", options.independent, True)):
        made = read_settings(folder) if folder else None
        if made is not None and isinstance(made.get("independent"), bool) and made["independent"] != independent:
            kinds = ("independent", "guided") if made["independent"] else ("guided", "independent")
            raise UsageError(f"{option} {folder}: holds {kinds[0]} samples, which the report would call {kinds[1]}")


def _measured(module: Any, recipe: Recipe | None, options: EvalOptions, ranks: Ranks) -> Report | None:
    """Return the report, None on every rank but the first."""
    found: Report | None
    if options.features is not None:
        found = module.compare_features(*options.features, options) if ranks.first else None
    elif options.compare is not None:
        found = module.compare_runs(*options.compare, options) if ranks.first else None
    elif recipe is None:
        found = module.compare_folders(options, ranks)
    elif recipe.eval.protocol in FILMS:
        found = module.evaluate(recipe, options, ranks)
    else:
        found = module.evaluate(recipe, options) if ranks.first else None
    return found


def _show(content: Mapping[str, Any], report: Report, options: EvalOptions) -> None:
    directory = options.out or Path()
    files = [write_json(directory / METRICS_FILE, content), *report.files]
    if report.clips:
        files.append(write_report(directory / REPORT_FILE, content, report))
    for line in (*report.table, *verdict_lines(content, report)):
        console.note(line)
    if options.json:
        console.record(content)
        return
    for file in files:
        console.result(str(file))


def verdict_lines(content: Mapping[str, Any], report: Report) -> list[str]:
    """Return the sentence that report.html opens with, and what it rests on."""
    if not report.clips:
        return []
    found = verdict_of(content["metrics"], report.clips, content["protocol"]["seed"])
    return ["", found.says, *([found.because] if found.because else [])]


def as_json(recipe: Recipe | None, name: str, report: Report, only: Iterable[str] = ()) -> Mapping[str, Any]:
    """Return what `mmdisco eval --json` prints; `only` leaves out all other metrics."""
    chosen = tuple(only) or tuple(report.metrics)
    always = import_module(PROTOCOLS[name]).METRICS
    # What only --extractor adds was asked for there.
    metrics = {key: value for key, value in report.metrics.items() if key in chosen or key not in always}
    protocol = {"name": name, **report.protocol}
    return {"recipe": recipe.name if recipe else None, "n": report.n, "metrics": metrics, "protocol": protocol}
