"""Training state on disk: written whole or not at all, read without running anything it contains.

The checkpoint before the last is kept too: what a disk or a power loss has spoilt is not found out when it is written.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmdisco_cli.errors import DataError
from mmdisco_cli.run import console
from mmdisco_cli.tensors.files import first_line, read_saved
from mmdisco_cli.weights_file import save_pickled

STATE, PREVIOUS = "state.pt", "state.previous.pt"
_FRESH = "; begin again with --fresh"


@dataclass
class TrainState:
    """A network, its optimiser and its averaged weights at a step, and the sums of figures `unlogged` so far.

    `torn` says that the last checkpoint could not be read, and is not to take the place of the one before.
    """

    module: nn.Module
    optimizer: torch.optim.Optimizer
    step: int
    average: dict[str, Tensor] = field(default_factory=dict)
    unlogged: dict[str, float] = field(default_factory=dict)
    torn: bool = False

    def __post_init__(self) -> None:
        """Begin the average at the network's own weights."""
        self.average = {name: p.detach().clone() for name, p in self.module.named_parameters()}

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """Move the averaged weights towards the network's; early steps count more, so the start is forgotten."""
        weight = 1 - min(decay, (1 + self.step) / (10 + self.step))
        for name, parameter in self.module.named_parameters():
            self.average[name].lerp_(parameter, weight)

    @torch.no_grad()
    def install_average(self) -> None:
        """Put the averaged weights into the network."""
        for name, parameter in self.module.named_parameters():
            parameter.copy_(self.average[name])


class _StateError(DataError):
    """A checkpoint that cannot be read; not one of another run."""


def save_state(path: Path, state: TrainState, fingerprint: str) -> None:
    """Write the state to `path` and keep the one before beside it, so that a kill or a full disk leaves either whole.

    Raises:
        DataError: it cannot be written.
    """
    content = {
        "fingerprint": fingerprint,
        "step": state.step,
        "window": state.unlogged,
        "module": state.module.state_dict(),
        "average": state.average,
        "optimizer": state.optimizer.state_dict(),
    }
    try:
        save_pickled(path, content, previous=None if state.torn else path.with_name(PREVIOUS))
    except DataError as error:
        kept = "; the previous checkpoint is kept" if path.exists() or path.with_name(PREVIOUS).exists() else ""
        raise DataError(f"{error}{kept}") from error
    state.torn = False


def load_state(path: Path, state: TrainState, fingerprint: str, *, first: bool = True) -> bool:
    """Restore a state in place and return True; return False where there is none.

    Where the last one cannot be read, the one before is taken, and the `first` of several processes says so.

    Raises:
        DataError: all that is there is damaged, or belongs to a run of another recipe.
    """
    previous = path.with_name(PREVIOUS)
    if not path.exists():  # also after a kill between the two renames of a save
        return previous.exists() and _restore(previous, state, fingerprint)
    try:
        return _restore(path, state, fingerprint)
    except _StateError as error:
        if not previous.exists() or not _restores(previous, state, fingerprint):
            raise
        state.torn = True
        if first:
            reason = str(error).removesuffix(_FRESH)
            console.warn(f"{reason}; going on from the checkpoint before it, {previous}, at step {state.step}")
        return True


def adopt_state(path: Path, former: str, fingerprint: str) -> int:
    """Give a state of the run `former`, if `path` is one, the new `fingerprint`; return its step, else 0."""
    try:
        content = _read(path) if path.exists() else {}
    except _StateError:  # reported by `load_state`, which reads it next
        return 0
    if content.get("fingerprint") not in (former, fingerprint):
        return 0
    if content["fingerprint"] == former:
        save_pickled(path, {**content, "fingerprint": fingerprint})
    return int(content.get("step", 0))


def _restores(path: Path, state: TrainState, fingerprint: str) -> bool:
    try:
        return _restore(path, state, fingerprint)
    except DataError:
        return False


def _restore(path: Path, state: TrainState, fingerprint: str) -> bool:
    content = _read(path)
    if content.get("fingerprint") != fingerprint:
        raise DataError(
            f"{path}: holds a run of another recipe (fingerprint {content.get('fingerprint')}, this recipe's is "
            f"{fingerprint}); choose another --out, or start over with --fresh"
        )
    try:
        state.module.load_state_dict(content["module"])
        state.optimizer.load_state_dict(content["optimizer"])
        # Read onto the CPU; the average has to live where the network does.
        state.average = {name: content["average"][name].to(p.device) for name, p in state.module.named_parameters()}
        state.step = content["step"]
        state.unlogged = dict(content.get("window", {}))  # older files have none
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        raise _StateError(f"{path}: not a state of this network ({first_line(error)}){_FRESH}") from error
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        content = read_saved(path)
    except DataError as error:
        raise _StateError(f"{error}{_FRESH}") from error
    if not isinstance(content, dict):
        raise _StateError(f"{path}: not a training state{_FRESH}")
    return content
