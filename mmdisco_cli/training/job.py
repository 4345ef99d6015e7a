"""What the two training targets have in common: where they work, with whom, and what they must be able to do."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from mmdisco_cli.data.contract import SplitDataset
from mmdisco_cli.errors import DataError
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run import console
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.training.directory import RunDirectory
from mmdisco_cli.training.loop import Loss, step_generator
from mmdisco_cli.training.metrics import MetricsLog
from mmdisco_cli.training.showing import Stages
from mmdisco_cli.training.signals import StopFlag

COPIES = 5
"""Of every trained weight in float32: itself, its gradient, two moments of Adam, its average."""
PROBE = 4
"""Tuples on which the memory of a step is measured."""


@dataclass(frozen=True)
class Context:
    """One process of a run."""

    recipe: Recipe
    directory: RunDirectory
    device: torch.device
    ranks: Ranks
    stop: StopFlag
    stages: Stages

    def log(self, stage: str) -> MetricsLog:
        """Return where a stage's figures go."""
        every, first = self.recipe.train.log_every, self.ranks.first
        return MetricsLog(self.directory.metrics, stage, every, self.stages.of(stage), enabled=first)

    def say(self, text: str) -> None:
        """Tell the user something, once for all ranks."""
        if self.ranks.first:
            console.note(text)


class Job(Protocol):
    """One target, its networks built and its data open."""

    @property
    def inputs(self) -> dict[str, Any]:
        """Name the content of everything outside the recipe that training depends on."""

    @property
    def overview(self) -> dict[str, Any]:
        """Say what will be trained, on what, and what memory it takes."""

    def fit(self, context: Context, fingerprint: str) -> None:
        """Train, going on where a former run stopped."""

    def export(self, context: Context, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Measure the trained weights, write them to the run's directory, and return the results."""


def heldout_of(dataset: SplitDataset, say: Callable[[str], None]) -> SplitDataset | None:
    """Return the held-out clips, or None with a remark where there are none."""
    try:
        return dataset.split("heldout")
    except DataError as error:
        say(f"note: nothing is measured on held-out clips: {error}")
        return None


def clips_of(dataset: SplitDataset) -> int | str:
    """Return how many clips there are, in words where they never end."""
    return dataset.length if dataset.length is not None else "endless"


def step_memory(loss_of: Callable[[int], Loss], batch: int) -> int:
    """Return about how many bytes a step keeps for its backward pass, measured on a few tuples."""
    probe = min(batch, PROBE)
    seen: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        kept = loss_of(probe)(step_generator(0, 0, 0))
    total = sum(seen.values())
    del kept
    return total * batch // probe
