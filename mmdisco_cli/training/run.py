"""`mmdisco train`: a base model, or the discriminator that joins several.

On one machine with several GPUs, or to try it with two processes on a CPU:

    torchrun --nproc-per-node 2 -m -- mmdisco_cli train --recipe NAME

(the `--` keeps torchrun from taking options for its own). Ranks share the batch, and the making of banks; the first
one writes. On several nodes, whose working directories may differ, --out is a folder that all of them see.
"""

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from mmdisco_cli.data.contract import SplitDataset
from mmdisco_cli.devices import choose_device, process_mb
from mmdisco_cli.errors import DataError
from mmdisco_cli.recipes.hints import command_line, other_weights
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run import console
from mmdisco_cli.run.distribution import joined_ranks
from mmdisco_cli.run.options import TrainOptions
from mmdisco_cli.run.shared import require_shared
from mmdisco_cli.run.signals import SignalFlag
from mmdisco_cli.training.base_models.backbone import backbone_job
from mmdisco_cli.training.directory import PLOT, RunDirectory, is_raised, training_fingerprint
from mmdisco_cli.training.discriminator import discriminator_job
from mmdisco_cli.training.loop import Context
from mmdisco_cli.training.metrics import Stages, StepCallback, last_figures, plot_losses
from mmdisco_cli.training.monitoring.trackers import open_trackers, require_trackers
from mmdisco_cli.training.release import is_released, write_release
from mmdisco_cli.weights_file import read_about

TrainCallback = Callable[[str, int, int, Mapping[str, float]], None]
"""Called with the title of a stage, its step, its steps and their figures; it may raise to stop."""


class TrainJob(Protocol):
    """What `train.target` names, its networks built and its data open."""

    @property
    def dataset(self) -> SplitDataset:
        """Return its clips."""

    @property
    def inputs(self) -> dict[str, Any]:
        """Name the content of everything outside the recipe that training depends on."""

    @property
    def overview(self) -> dict[str, Any]:
        """Say what will be trained, on what, and what memory it takes."""

    def fit(self, context: Context) -> None:
        """Train, going on where a former run stopped."""

    def export(self, context: Context, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Measure the trained weights, write them to the run's directory, and return the results."""


@dataclass(frozen=True)
class Trained:
    """What a training ended with: its weights, their measured results, and whether it had been complete before."""

    path: Path
    results: Mapping[str, Any]
    already_complete: bool = False
    seconds: float | None = None


def train(recipe: Recipe, options: TrainOptions) -> None:
    """Train what the recipe says and print the path of the weights; the same call again resumes, or says it is done.

    Raises:
        UsageError, PluginError: the recipe cannot be trained.
        DataError: data, base models or checkpoints cannot be used, the recipe changed, or training diverged.
        Stopped: a signal came; the state is saved.
    """
    done = train_recipe(recipe, options)
    if done is not None:
        _print_result(recipe, options, done)


def train_recipe(recipe: Recipe, options: TrainOptions, callback: TrainCallback | None = None) -> Trained | None:
    """Train what the recipe says; return what it ended with on the first rank, None on others and of a dry run.

    `callback` is called at every step of every stage. Errors as for `train`.
    """
    device, stop = choose_device(), SignalFlag()
    directory = RunDirectory(options.out or Path("runs") / recipe.name / "train", recipe, options.bank)
    with joined_ranks(device) as ranks, Stages(ranks.first) as stages, stop.listening():
        context = Context(directory, device, ranks, stop, _watched(stages.of, callback))
        if not options.dry_run:
            for folder in dict.fromkeys((directory.path, directory.bank or directory.path)):
                require_shared(folder, ranks, device)
        require_trackers(recipe.train.log)
        if not options.fresh:
            directory.require_same_recipe()
        job = _open(context)
        if options.dry_run:
            _print_plan(context, job, options)
            return None
        return _run(context, job, options)


def _watched(progress: Callable[[str], StepCallback], callback: TrainCallback | None) -> Callable[[str], StepCallback]:
    """Return what shows a stage's steps and calls back with them."""
    if callback is None:
        return progress

    def of(title: str) -> StepCallback:
        show = progress(title)

        def report(step: int, steps: int, figures: Mapping[str, float]) -> None:
            show(step, steps, figures)
            callback(title, step, steps, figures)

        return report

    return of


def _open(context: Context) -> TrainJob:
    target = context.recipe.train.target
    return backbone_job(context) if target == "backbone" else discriminator_job(context)


def _run(context: Context, job: TrainJob, options: TrainOptions) -> Trained | None:
    directory, begun, inputs, recipe = context.directory, time.monotonic(), job.inputs, context.recipe
    _say_what_is_left_over(context)
    if not options.fresh:
        directory.require_same_inputs(inputs)
        if (known := _known(directory)) is not None:
            if not is_released(directory.path):
                _release(context)
            return Trained(directory.weights, known, already_complete=True) if context.ranks.first else None
    _claim(context, inputs, options)
    names = recipe.train.log if context.ranks.first else ()
    try:
        with open_trackers(names, directory) as trackers:
            job.fit(replace(context, fingerprint=directory.fingerprint(inputs), trackers=trackers))
    finally:
        if context.ranks.first:
            with contextlib.suppress(DataError):  # what went wrong before matters more than its plot
                plot_losses(directory.metrics, directory.path / PLOT)
    if not context.ranks.first:
        return None
    results = job.export(context, last_figures(directory.metrics))
    _release(context)
    return Trained(directory.weights, results, seconds=round(time.monotonic() - begun, 1))


def _release(context: Context) -> None:
    """Write what can be published; the first rank alone."""
    if context.ranks.first:
        directory = context.directory
        folder = write_release(directory.path, directory.weights, context.recipe)
        context.say(f"to publish it: hf upload OWNER/NAME {command_line(str(folder))}")
        joins = context.recipe.train.target == "discriminator"
        if joins and (text := other_weights(context.recipe, directory.weights)):
            context.say(text)


def _say_what_is_left_over(context: Context) -> None:
    config, ranks = context.recipe.train, context.ranks.world
    taken = context.batch * ranks * config.accumulate
    if taken != config.batch_size:
        parts = f" and train.accumulate={config.accumulate}" if config.accumulate > 1 else ""
        context.say(f"note: train.batch_size={config.batch_size} is {taken} tuples a step on {ranks} ranks{parts}")


def _known(directory: RunDirectory) -> dict[str, Any] | None:
    """Return the results of a complete training; None where there is none, or one of fewer steps that goes on."""
    if not directory.weights.exists():
        return None
    recipe = directory.recipe
    about = read_about(directory.weights, recipe.train.target)
    if about.get("fingerprint") == training_fingerprint(recipe):
        results: dict[str, Any] = about["results"]
        return results
    if not is_raised(about.get("recipe", {}), recipe):
        raise DataError(f"{directory.weights}: of another recipe; choose another --out, or begin again with --fresh")
    directory.require_state()
    return None


def _claim(context: Context, inputs: Mapping[str, Any], options: TrainOptions) -> None:
    """Write down what this run uses, in place of all that lies there or to go on with it."""
    directory = context.directory
    context.wait()  # all have looked before the first one writes
    if context.ranks.first:
        if options.fresh:
            directory.clear()
        elif text := directory.raise_steps(inputs):
            context.say(text)
        directory.claim(inputs)
    context.wait()


def _print_result(recipe: Recipe, options: TrainOptions, done: Trained) -> None:
    if done.already_complete:
        console.note(f"{done.path.parent}: training is complete; --fresh begins again")
    if options.json:
        steps = recipe.train.steps
        head = {"recipe": recipe.name, "target": recipe.train.target, "path": str(done.path), "steps": steps}
        times = {"already_complete": done.already_complete, "seconds": done.seconds}
        console.record({**head, **times, "results": done.results})
        return
    for line in _lines(done.results):
        console.note(line)
    console.result(str(done.path))


def _print_plan(context: Context, job: TrainJob, options: TrainOptions) -> None:
    if not context.ranks.first:
        return
    config = context.recipe.train
    plan = {
        "recipe": context.recipe.name,
        "target": config.target,
        "directory": str(context.directory.path),
        "resumes": context.directory.begun() and not options.fresh,
        "device": str(context.device),
        "dtype": config.dtype,
        "ranks": context.ranks.world,
        "batch_size": config.batch_size,
        **({"accumulate": config.accumulate} if config.accumulate > 1 else {}),
        **job.overview,
        **process_mb(context.device),
    }
    if options.json:
        console.record(plan)
        return
    for line in _lines(plan):
        console.result(line)


def _lines(content: Mapping[str, Any], indent: str = "") -> list[str]:
    lines: list[str] = []
    for key, value in content.items():
        if isinstance(value, dict) and any(isinstance(part, dict) for part in value.values()):
            lines += [f"{indent}{key}:", *_lines(value, f"{indent}  ")]
        elif isinstance(value, dict):
            lines.append(f"{indent}{key}: {', '.join(f'{k} {v}' for k, v in value.items())}")
        else:
            lines.append(f"{indent}{key}: {value}")
    return lines
