"""`mmdisco eval`: hand the recipe to its protocol, or folders to what measures them; keep and show what is found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from mmdisco_cli.data.manifest import read_settings
from mmdisco_cli.errors import UsageError
from mmdisco_cli.evaluation import clips, compare, features_files
from mmdisco_cli.evaluation.html_report import REPORT_FILE, write_report
from mmdisco_cli.evaluation.protocol import METRICS_FILE, Protocol, Report
from mmdisco_cli.evaluation.verdict.conclusion import conclude
from mmdisco_cli.evaluation.verdict.failures import failures, repeated
from mmdisco_cli.measures.names import require_known
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.registry.plugins import load_registry
from mmdisco_cli.run import console
from mmdisco_cli.run.distribution import Ranks, joined_ranks
from mmdisco_cli.run.files import make_directory, write_json
from mmdisco_cli.run.options import EvalOptions

KIND = "protocol"


@dataclass(frozen=True)
class Evaluation:
    """What one call of `mmdisco eval` measures: its name in the report, its metrics, and where it writes by default.

    `measure` gives the report on the first rank and None on the others.
    """

    name: str
    metrics: tuple[str, ...]
    measures_clips: bool
    directory: Path
    measure: Callable[[EvalOptions, Ranks], Report | None]


def open_protocol(name: str) -> Protocol:
    """Return what `eval.protocol` names; raise PluginError, with names that are close, where no plugin provides it."""
    build = load_registry().find(KIND, name).factory()
    protocol: Protocol = build()
    return protocol


def evaluate(recipe: Recipe | None, options: EvalOptions) -> "Measured | None":
    """Measure what the recipe's protocol measures, or clips without one, and print one JSON object, or its path.

    Returns what was measured, None on ranks but the first.

    Raises:
        UsageError: a metric that the protocol does not have, or options that do not fit.
        DataError, PluginError, DeviceError: models or samples cannot be used.
    """
    if (found := measure(recipe, options)) is not None:
        _show(found, options)
    return found


@dataclass(frozen=True)
class Measured:
    """What was measured: `content` is that of metrics.json, the first of `files`."""

    content: Mapping[str, Any]
    report: Report
    files: Sequence[Path]


def measure(recipe: Recipe | None, options: EvalOptions) -> Measured | None:
    """Measure by all ranks together, and write what is found; return it on the first. Errors as for `evaluate`."""
    chosen = _by_recipe(recipe) if recipe else _without_recipe(options)
    if not options.extractors:  # whose own metrics are known once they are open
        require_known(options.metrics, chosen.metrics, of_clips=chosen.measures_clips)
    directory = options.out or chosen.directory
    if directory.resolve() in {run.resolve() for run in options.compare or ()}:
        raise UsageError(f"--out {directory}: is one of the runs that are compared, whose figures would be lost")
    make_directory(directory)
    _require_fitting(chosen, options)
    _require_rows_as_called(recipe is not None and chosen.measures_clips, options)
    options = replace(options, out=directory, seed=recipe.eval.seed if recipe else options.seed)
    with joined_ranks(torch.device("cpu")) as ranks:
        report = chosen.measure(options, ranks)
        if report is None:
            return None
        content = as_json(recipe, chosen, report, options.metrics)
        return Measured(content, report, _written(directory, content, report))


def _by_recipe(recipe: Recipe) -> Evaluation:
    name = recipe.eval.protocol
    protocol = open_protocol(name)
    return Evaluation(
        name, protocol.metrics, protocol.measures_clips, Path("runs") / recipe.name / "eval",
        lambda options, ranks: protocol.evaluate(recipe, options, ranks),
    )  # fmt: skip


def _without_recipe(options: EvalOptions) -> Evaluation:
    """Return what measures files alone; each writes into a folder of its own, none in the place of another."""
    runs = Path("runs")
    if options.compare is not None:
        return Evaluation("compare", compare.METRICS, False, runs / "compare", compare.evaluate)
    if options.features is not None:
        return Evaluation("features", features_files.METRICS, False, runs / "features", features_files.evaluate)
    return Evaluation("clips", clips.METRICS, True, runs / "eval", clips.compare_folders)


def _require_fitting(chosen: Evaluation, options: EvalOptions) -> None:
    """Refuse options that would do nothing."""
    if options.rows == "parquet" and find_spec("pyarrow") is None:
        raise UsageError("--rows parquet needs pyarrow: pip install pyarrow")
    if options.extractors and not chosen.measures_clips:
        raise UsageError(f"--extractor measures clips, of folders or by a recipe's protocol: {chosen.name} has none")
    if options.compat and not (options.extractors or options.features):
        raise UsageError("--compat goes with distances of an --extractor or of --features: name one")


def _require_rows_as_called(by_recipe: bool, options: EvalOptions) -> None:
    """Refuse samples that a report would call guided though they are independent, or the other way round."""
    guided = options.samples if by_recipe or options.independent else None
    for option, folder, independent in (("--samples", guided, False), ("--independent", options.independent, True)):
        made = read_settings(folder) if folder else None
        if made is not None and isinstance(made.get("independent"), bool) and made["independent"] != independent:
            kinds = ("independent", "guided") if made["independent"] else ("guided", "independent")
            raise UsageError(f"{option} {folder}: holds {kinds[0]} samples, which the report would call {kinds[1]}")


def _written(directory: Path, content: Mapping[str, Any], report: Report) -> list[Path]:
    files = [write_json(directory / METRICS_FILE, content), *report.files]
    return [*files, write_report(directory / REPORT_FILE, content, report)]


def _show(found: Measured, options: EvalOptions) -> None:
    for line in (*found.report.table, *conclusion_lines(found.content, found.report)):
        console.note(line)
    for line in found.content["warnings"]:
        console.warn(line)
    if options.json:
        console.record(found.content)
        return
    for file in found.files:
        console.result(str(file))


def conclusion_lines(content: Mapping[str, Any], report: Report) -> list[str]:
    """Return the sentence that report.html opens with, and what it rests on; none of what decides nothing."""
    found = conclude(content["metrics"])
    return ["", *found.lines] if found.metric or report.clips else []


def as_json(recipe: Recipe | None, chosen: Evaluation, report: Report, only: tuple[str, ...] = ()) -> Mapping[str, Any]:
    """Return what `mmdisco eval --json` prints; `only` leaves out all other metrics of the protocol's own."""
    names = only or tuple(report.metrics)
    # What only --extractor adds was chosen there.
    metrics = {key: value for key, value in report.metrics.items() if key in names or key not in chosen.metrics}
    protocol = {"name": chosen.name, **report.protocol}
    about = {"recipe": recipe.name if recipe else None, "n": report.n}
    return {
        **about,
        "metrics": metrics,
        "protocol": protocol,
        "warnings": [*repeated(report.clips), *failures(metrics)],
    }
