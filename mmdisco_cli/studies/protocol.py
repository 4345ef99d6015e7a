"""Protocol `study`: one recipe trained and measured under each of several settings, in one table.

A study is a recipe with the section `study`; each of its rows is trained into a folder of its own, its base models
first where it changes them, and measured by the protocol that `study.protocol` names. The same command again takes up
what is done.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmdisco_cli.errors import UsageError, did_you_mean
from mmdisco_cli.evaluation.protocol import Protocol, Report
from mmdisco_cli.evaluation.run import measure, open_protocol
from mmdisco_cli.evaluation.tables import align, cell
from mmdisco_cli.recipes.schema import Recipe, value_at
from mmdisco_cli.run import console
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.run.files import write_json, write_text
from mmdisco_cli.run.options import EvalOptions, TrainOptions
from mmdisco_cli.studies.rows import BANK, BASES, Row, rows_of
from mmdisco_cli.training.directory import RunDirectory
from mmdisco_cli.training.run import train_recipe

METRICS = ("rows",)
MINUTES = "cpu_minutes"
"""Of training, in the first process."""
COST = "cost.json"
"""CPU seconds of a training over all calls, for it may be stopped and go on."""


def build() -> Protocol:
    """Return the protocol."""
    return Protocol(METRICS, evaluate, takes_samples=False)


def evaluate(recipe: Recipe, options: EvalOptions, ranks: Ranks) -> Report | None:
    """Train and measure every row; ranks but the first only help.

    Raises:
        UsageError: the study has no rows, one of them is no recipe, or its protocol has no such metric.
        Other errors as for `train` and `eval`; what was done is kept.
    """
    rows, out = rows_of(recipe), options.out or Path()
    names = recipe.study.metrics
    known = open_protocol(recipe.study.protocol).metrics
    for name in names:
        if name.split(".")[0] not in known:
            raise UsageError(f"study.metrics: {recipe.study.protocol} has no {name!r}{did_you_mean(name, known)}")
    found = {}
    for k, row in enumerate(rows, 1):
        if ranks.first:
            console.note(f"row {k} of {len(rows)}: {row.name}")
        found[row.name] = _measured(recipe, row, out, ranks)
    if not ranks.first:
        return None
    columns = (*names, MINUTES)
    cells = [[row, *(cell(figures.get(name)) for name in columns)] for row, figures in found.items()]
    table = [["", *(name.replace("_", " ").replace(".", ", ") for name in columns)], *cells]
    files = [write_json(out / "study.json", found), _write_markdown(out / "study.md", table)]
    protocol = {"seed": recipe.eval.seed, "measured_by": recipe.study.protocol}
    return Report(recipe.eval.n, {"rows": found}, protocol, align(table), files)


def _measured(study: Recipe, row: Row, out: Path, ranks: Ranks) -> dict[str, Any]:
    """Return the figures of a row by their dotted names, and what its trainings took."""
    bank = out / BANK  # most rows train on the same clips
    bases = {label: _trained(base, out / BASES / base.name, bank) for label, base in row.bases.items()}
    joint = row.recipe(study, {label: str(path) for label, path in bases.items()})
    weights = _trained(joint, out / row.folder / "train", bank)
    sampled = replace(joint, sample=replace(joint.sample, weights=str(weights)))
    wanted = tuple(dict.fromkeys(name.split(".")[0] for name in study.study.metrics))
    measured = measure(sampled, EvalOptions(out=out / row.folder / "eval", metrics=wanted))
    if measured is None or not ranks.first:
        return {}
    metrics = measured.content["metrics"]
    figures = {name: value_at(metrics, name) for name in study.study.metrics}
    for name in (name for name, value in figures.items() if not _is_figure(value)):
        console.warn(f"study.metrics: {name}: no figure of row {row.name}{_known(metrics, name)}")
    minutes = sum(_seconds(path.parent) for path in (*bases.values(), weights)) / 60
    return {**figures, MINUTES: round(minutes, 1)}


def _trained(recipe: Recipe, folder: Path, bank: Path) -> Path:
    """Train a recipe into a folder, where that is not done, and return its weights."""
    with _counted(folder):
        train_recipe(recipe, TrainOptions(out=folder, bank=bank))
    return RunDirectory(folder, recipe).weights


@contextmanager
def _counted(folder: Path) -> Iterator[None]:
    """Add the CPU time of a block to what a folder has cost so far, also where it is stopped."""
    before, begun = _seconds(folder), time.process_time()
    try:
        yield
    finally:
        if folder.is_dir():
            write_json(folder / COST, before + time.process_time() - begun)


def _seconds(folder: Path) -> float:
    path = folder / COST
    return float(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else 0.0


def _is_figure(value: Any) -> bool:
    """Return whether something is a number, or one with an interval."""
    return isinstance(value, int | float) or (isinstance(value, Mapping) and "value" in value)


def _known(metrics: Mapping[str, Any], dotted: str) -> str:
    """Return the figures that there are in place of one, in a clause."""
    value, above = value_at(metrics, dotted), dotted
    if not isinstance(value, Mapping):
        above = dotted.rpartition(".")[0]
        value = value_at(metrics, above) if above else metrics
    known = [f"{above}.{key}".removeprefix(".") for key in value] if isinstance(value, Mapping) else []
    return did_you_mean(dotted, known)


def _write_markdown(path: Path, table: Sequence[Sequence[str]]) -> Path:
    """Write a table as Markdown, whole or not at all."""
    head, *rows = table
    lines = [head, ["---"] * len(head), *rows]
    write_text(path, "".join(f"| {' | '.join(line)} |\n" for line in lines))
    return path
