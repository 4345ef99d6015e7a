"""Models that cannot be asked for a prediction, only run from noise to media, all of a recipe's at once.

The optional member `run_whole` of a backbone says that it is one. Such models only sample: nothing trains beside them,
nothing is held as given, and their own solvers step.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from mmdisco_cli.diffusion.backbone import Base, Plan, State, inner
from mmdisco_cli.diffusion.guidance import Guidance
from mmdisco_cli.errors import UsageError


@dataclass(frozen=True)
class Run:
    """One batch: a prompt a sample, solver steps, scales of CFG, what guides, and who hears each step, from 1 on."""

    prompts: Sequence[str]
    steps: int
    cfg: Mapping[str, float]
    guidance: Guidance | None
    on_step: Callable[[int], None]


@runtime_checkable
class RunsWhole(Protocol):
    """The optional member of a backbone that can only be run."""

    def run_whole(self, beside: Sequence[Any], plans: Sequence[Plan], run: Run) -> tuple[State, Tensor | None]:
        """Return media (B, ...) of this model, the first of `beside`, and of all others; and the last logit (B,)."""


def runs_whole(models: Mapping[str, Base]) -> bool:
    """Return whether any of the models can only be run."""
    return any(isinstance(inner(base.backbone), RunsWhole) for base in models.values())


def run_whole(models: Mapping[str, Base], run: Run) -> tuple[State, Tensor | None]:
    """Return the media of models that can only be run; raise UsageError where another one is among them."""
    backbones = {label: inner(base.backbone) for label, base in models.items()}
    for label, backbone in backbones.items():
        if not isinstance(backbone, RunsWhole):
            raise UsageError(f"backbones.{label}: models beside it can only be run whole, and this one only predicts")
    first: Any = next(iter(backbones.values()))
    plans = [base.plan for base in models.values()]
    media: tuple[State, Tensor | None] = first.run_whole(list(backbones.values()), plans, run)
    return media


def require_predictions(models: Mapping[str, Base], purpose: str) -> None:
    """Raise UsageError where a model can only be run; `purpose` is the participle of what it is wanted for."""
    for label, base in models.items():
        if isinstance(inner(base.backbone), RunsWhole):
            raise UsageError(f"backbones.{label}: it can only be run from noise to media, not {purpose}")
