"""Models that cannot be asked for a prediction, only run from noise to media, all of a recipe's at once.

The optional member `run_whole` of a backbone says that it is one. Such models only sample: nothing trains beside them,
nothing is held as given, and their own solvers step.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from mmdisco_cli.diffusion.backbone import JointBackbone, Plan, State, inner
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


def runs_whole(backbones: Iterable[JointBackbone]) -> bool:
    """Return whether any of the backbones can only be run."""
    return any(isinstance(inner(backbone), RunsWhole) for backbone in backbones)


def run_whole(
    backbones: Mapping[str, JointBackbone], plans: Mapping[str, Plan], run: Run
) -> tuple[State, Tensor | None]:
    """Return the media of backbones that can only be run; raise UsageError where another one is among them."""
    models = {label: inner(backbone) for label, backbone in backbones.items()}
    for label, model in models.items():
        if not isinstance(model, RunsWhole):
            raise UsageError(f"backbones.{label}: models beside it can only be run whole, and this one only asked")
    first: Any = next(iter(models.values()))
    media: tuple[State, Tensor | None] = first.run_whole(list(models.values()), list(plans.values()), run)
    return media


def require_predictions(backbones: Mapping[str, JointBackbone], purpose: str) -> None:
    """Raise UsageError where a backbone can only be run; `purpose` is the participle of what it is wanted for."""
    for label, backbone in backbones.items():
        if isinstance(inner(backbone), RunsWhole):
            raise UsageError(f"backbones.{label}: it can only be run from noise to media, not {purpose}")
