"""Training state on disk: written whole or not at all, read without running anything it contains."""

import os
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmdisco_cli.errors import DataError


@dataclass
class TrainState:
    """A network, its optimiser and its averaged weights at a step."""

    module: nn.Module
    optimizer: torch.optim.Optimizer
    step: int
    average: dict[str, Tensor] = field(default_factory=dict)

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
    """Write the state to `path` through a temporary file, so that a kill leaves the previous one whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "fingerprint": fingerprint,
        "step": state.step,
        "module": state.module.state_dict(),
        "average": state.average,
        "optimizer": state.optimizer.state_dict(),
    }
    partial = path.with_name(f".{path.name}.partial")
    try:
        torch.save(content, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


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
    state.module.load_state_dict(content["module"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.average = content["average"]
    state.step = content["step"]
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, ValueError, KeyError) as error:
        raise DataError(f"{path}: not a readable training state ({str(error).splitlines()[0]})") from error
    return content
