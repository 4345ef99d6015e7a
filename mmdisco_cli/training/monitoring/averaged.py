"""Use the averaged weights of a network in the middle of its training, without any effect on the training."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from mmdisco_cli.training.checkpoint import TrainState
from mmdisco_cli.training.report import round_to_file


@contextmanager
def looked_at(state: TrainState, device: torch.device) -> Iterator[None]:
    """Use the averaged weights, rounded as in a file, within a block; afterwards restore everything bit for bit.

    Raises:
        DataError: a weight overflows half precision.
    """
    try:
        with unchanged(state.module), _untouched_generators(device):
            state.install_average()
            round_to_file(state.module)
            state.module.eval()
            yield
    finally:
        if device.type == "cuda":
            torch.cuda.empty_cache()


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Restore the weights and the mode of a module after a block."""
    own, training = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}, module.training
    try:
        yield
    finally:
        module.load_state_dict(own)
        module.train(training)


@contextmanager
def _untouched_generators(device: torch.device) -> Iterator[None]:
    """Leave the global generators of random numbers as they were: a base model may draw from any of them."""
    plain, arrays = random.getstate(), np.random.get_state()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(plain)
        np.random.set_state(arrays)
