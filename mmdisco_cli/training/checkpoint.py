"""Training state on disk: written whole or not at all, read without running anything it contains."""

import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmdisco_cli.errors import DataError
from mmdisco_cli.weights_file import save_pickled


@dataclass
class TrainState:
    """A network, its optimiser and its averaged weights at a step, and the figures since the log's last line."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    step: int
    average: dict[str, Tensor] = field(default_factory=dict)
    window: dict[str, float] = field(default_factory=dict)

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


def save_state(path: Path, state: TrainState, fingerprint: str) -> None:
    """Write the state to `path`, so that a kill or a full disk leaves the previous one whole.

    Raises:
        DataError: it cannot be written.
    """
    content = {
        "fingerprint": fingerprint,
        "step": state.step,
        "window": state.window,
        "module": state.module.state_dict(),
        "average": state.average,
        "optimizer": state.optimizer.state_dict(),
    }
    try:
        save_pickled(path, content)
    except DataError as error:
        kept = "; the previous checkpoint is kept" if path.exists() else ""
        raise DataError(f"{error}{kept}") from error


def load_state(path: Path, state: TrainState, fingerprint: str) -> bool:
    """Restore a state in place and return True; return False where there is none.

    Raises:
        DataError: the file is damaged, or belongs to a run of another recipe.
    """
    if not path.exists():
        return False
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
        state.window = dict(content.get("window", {}))  # older files have none
    except (KeyError, RuntimeError, ValueError, TypeError) as error:
        raise DataError(
            f"{path}: not a state of this network ({_first_line(error)}); begin again with --fresh"
        ) from error
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise DataError(
            f"{path}: not a readable training state ({_first_line(error)}); begin again with --fresh"
        ) from error
    if not isinstance(content, dict):
        raise DataError(f"{path}: not a training state; begin again with --fresh")
    return content


def _first_line(error: Exception) -> str:
    # The unpickler advises to trust the file, which nobody should.
    if isinstance(error, pickle.UnpicklingError):
        return "not what torch.save writes of tensors and numbers"
    return (str(error).splitlines() or [type(error).__name__])[0]
