"""Weights and inputs that any two implementations can make alike, however they name their parts.

A tensor is drawn by NumPy's legacy generator, whose numbers never change, seeded by the tensor's name and sized so that
signals neither vanish nor blow up.
"""

import zlib

import numpy as np
import torch


def drawn(name, shape):
    """Return standard normal numbers that depend on nothing but a name and a shape."""
    return np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape)


def signal(name, shape, scale=1.0):
    return torch.from_numpy((scale * drawn(name, shape)).astype(np.float32))


def weights(shapes):
    """Return a state dict for names and shapes."""
    return {name: torch.from_numpy(np.asarray(_tensor(name, shape), np.float32)) for name, shape in shapes.items()}


def fill_by_rule(module):
    """Overwrite all weights of a module and put it into evaluation mode."""
    state = module.state_dict()
    made = weights({name: tuple(tensor.shape) for name, tensor in state.items() if tensor.is_floating_point()})
    module.load_state_dict({**state, **made})
    return module.eval().requires_grad_(False)


def _tensor(name, shape):
    values = drawn(name, shape)
    if name.endswith("running_var"):
        return 0.5 + np.abs(values)
    if len(shape) > 1:
        return values * np.sqrt(2 / np.prod(shape[1:]))
    return 1 + 0.1 * values if name.endswith("weight") else 0.1 * values
