"""`train.log`: the lines of metrics.jsonl sent to TensorBoard and Weights & Biases too, by their own packages."""

import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from mmdisco_cli.errors import UsageError, describe
from mmdisco_cli.run import console
from mmdisco_cli.run.files import write_text
from mmdisco_cli.training.directory import TENSORBOARD, WANDB, RunDirectory
from mmdisco_cli.training.metrics import Tracker

MODULES = {"tensorboard": "torch.utils.tensorboard", "wandb": "wandb"}
"""What is imported of each tracker."""
PROJECT = "mmdisco"
"""On Weights & Biases, where WANDB_PROJECT names no other."""


def require_trackers(names: Sequence[str]) -> None:
    """Raise UsageError, with the command that installs it, where the package of a tracker is missing or incomplete."""
    wanted = {name: MODULES[name] for name in sorted(set(names)) if name in MODULES}
    missing = {name: why for name, module in wanted.items() if (why := _trouble(name, module))}
    if missing:
        said = " and ".join(f"{name} {why}" for name, why in missing.items())
        raise UsageError(f"train.log: {said}: pip install {' '.join(missing)}")


def _trouble(name: str, module: str) -> str:
    """Say what keeps a tracker's package from being used, if anything does."""
    if find_spec(name) is None:
        return "is not installed"
    try:
        import_module(module)
    except ImportError as error:
        return f"cannot be imported ({describe(error)})"
    return ""


@contextmanager
def open_trackers(names: Sequence[str], directory: RunDirectory) -> Iterator[list[Tracker]]:
    """Yield what takes every line of figures, for the length of a block.

    Raises:
        UsageError: Weights & Biases cannot be reached, or nobody is logged in.
    """
    with ExitStack() as stack:
        opened = {"tensorboard": _tensorboard, "wandb": _wandb}
        yield [stack.enter_context(opened[name](directory)) for name in dict.fromkeys(names) if name in opened]


def scalars(stage: str, figures: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers among figures by name, those of a mapping as name/key, below their stage."""
    found: dict[str, float] = {}
    for name, value in figures.items():
        if isinstance(value, Mapping):
            found |= scalars(f"{stage}/{name}", value)
        elif isinstance(value, int | float):
            found[f"{stage}/{name}"] = float(value)
    return found


@contextmanager
def _tensorboard(directory: RunDirectory) -> Iterator[Tracker]:
    """Write event files into the run's folder.

    A run that goes on repeats some steps, and TensorBoard lets these replace the earlier ones.
    """
    from torch.utils.tensorboard import SummaryWriter

    folder = directory.path / TENSORBOARD
    writers: dict[str, Any] = {}

    def track(stage: str, step: int, figures: Mapping[str, Any]) -> None:
        if stage not in writers:  # one a stage, for the steps of each begin at one
            writers[stage] = SummaryWriter(str(folder / stage), purge_step=step)
        for name, value in scalars("", figures).items():
            writers[stage].add_scalar(name.removeprefix("/"), value, step)
        writers[stage].flush()

    try:
        yield track
    finally:
        for writer in writers.values():
            writer.close()


@contextmanager
def _wandb(directory: RunDirectory) -> Iterator[Tracker]:
    """Log to a run of Weights & Biases, which later parts of the same training go on with; WANDB_MODE is heeded."""
    import wandb

    name = directory.recipe.name
    project = os.environ.get("WANDB_PROJECT") or PROJECT
    try:
        run = wandb.init(
            project=project, name=name, id=_run_id(directory), resume="allow", dir=str(directory.path),
            config=directory.recipe.to_dict(), settings=wandb.Settings(console="off", silent=True),
        )  # fmt: skip
    except wandb.errors.Error as error:
        why = describe(error)
        raise UsageError(f"train.log: wandb: {why}; `wandb login`, or WANDB_MODE=offline keeps it here") from error
    known: set[str] = set()

    def track(stage: str, step: int, figures: Mapping[str, Any]) -> None:
        if stage not in known:  # an axis of its own: W&B's step only rises, ours begins again with each stage
            known.add(stage)
            run.define_metric(f"{stage}/step")
            run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
        run.log({f"{stage}/step": step, **scalars(stage, figures)})

    code = 1
    try:
        yield track
        code = 0
    finally:
        run.finish(exit_code=code)
        if code == 0:
            console.note(f"wandb: {directory.path / 'wandb' if run.offline else run.url}")


def _run_id(directory: RunDirectory) -> str:
    """Return the name by which W&B knows this training, made with its first part."""
    path = directory.path / WANDB
    known = path.read_text(encoding="utf-8").strip() if path.exists() else ""
    if not known:
        known = secrets.token_hex(4)
        write_text(path, f"{known}\n")
    return known
