"""Models that cannot be evaluated at one noise level, only run from noise to media, all models of a recipe together.

A backbone with the optional member `run_whole` is one. Such models only sample, with their own solvers: no training,
and no modality can be given.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from mmdisco_cli.diffusion.backbone import Base, Plan, State, unwrap
from mmdisco_cli.diffusion.guidance import Guidance
from mmdisco_cli.errors import UsageError


@dataclass(frozen=True)
class Run:
    """One batch: a prompt for each sample, solver steps, CFG scales, guidance, and a callback with each step's number.

    Prompts are by modality where they differ, which only models get that say so by a true `prompts_by_modality`.
    Steps are counted from 1. The callback may raise to stop.
    """

    prompts: Sequence[str] | Mapping[str, Sequence[str]]
    steps: int
    cfg: Mapping[str, float]
    guidance: Guidance | None
    on_step: Callable[[int], None]

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(next(iter(self.prompts.values())) if isinstance(self.prompts, Mapping) else self.prompts)

    def prompts_of(self, modality: str) -> Sequence[str]:
        """Return the prompt of each sample for one modality."""
        return self.prompts[modality] if isinstance(self.prompts, Mapping) else self.prompts


@runtime_checkable
class RunsWhole(Protocol):
    """Optional member of a backbone: it can only be run from noise to media."""

    def run_whole(self, beside: Sequence[Any], plans: Sequence[Plan], run: Run) -> tuple[State, Tensor | None]:
        """Return the media (B, ...) of all models of the recipe, of which this is the first, and the last logit (B,).

        `beside` are all of them as their authors wrote them, this one included, and `plans` their plans.
        """


def runs_whole(models: Mapping[str, Base]) -> bool:
    """Return whether any of the models can only be run."""
    return any(isinstance(unwrap(base.backbone), RunsWhole) for base in models.values())


def run_whole(models: Mapping[str, Base], run: Run) -> tuple[State, Tensor | None]:
    """Return the media of models that can only be run.

    Raises:
        UsageError: another one is among them, or prompts differ by modality and one of them takes one for all.
    """
    backbones = {label: unwrap(base.backbone) for label, base in models.items()}
    for label, backbone in backbones.items():
        if not isinstance(backbone, RunsWhole):
            raise UsageError(f"backbones.{label}: other models of this recipe can only be run whole, this one cannot")
        if isinstance(run.prompts, Mapping) and not getattr(backbone, "prompts_by_modality", False):
            raise UsageError(
                f"--prompts: backbones.{label} takes one prompt for all modalities: put them into one column, caption"
            )
    first: Any = next(iter(backbones.values()))
    plans = [base.plan for base in models.values()]
    media: tuple[State, Tensor | None] = first.run_whole(list(backbones.values()), plans, run)
    return media


def require_predictions(models: Mapping[str, Base], purpose: str) -> None:
    """Raise UsageError where a model can only be run; `purpose` is the participle that completes the message."""
    for label, base in models.items():
        if isinstance(unwrap(base.backbone), RunsWhole):
            raise UsageError(f"backbones.{label}: it can only be run from noise to media, not {purpose}")
