"""`train.init`: a discriminator that starts from the weights of another one, as far as both have the same layers."""

import torch
from torch import nn

from mmdisco_cli.errors import DataError
from mmdisco_cli.tensors.files import read_safetensors
from mmdisco_cli.tensors.guard import require_finite
from mmdisco_cli.weights_file import find_weights, read_about

MOST_NAMED = 3


@torch.no_grad()
def start_from(weights: str, name: str, module: nn.Module) -> str:
    """Copy the weights of a file into a discriminator of the type `name`, and return a line that says so.

    Every tensor of the file must have its place; those of the discriminator that the file lacks, such as the layers for
    prompts of one that was trained without captions, stay as they were initialised.

    Raises:
        DataError: no such file, one of another type of discriminator, or tensors that do not fit; the first are named.
    """
    path = find_weights(weights)
    about = read_about(path, "discriminator")
    if about.get("name") != name:
        raise DataError(f"train.init: {path} holds a discriminator {about.get('name')}, not {name}")
    stored, own = read_safetensors(path), module.state_dict()
    wrong = [
        f"{n} is {tuple(x.shape)}, here {tuple(own[n].shape)}" if n in own else f"no {n} here"
        for n, x in stored.items()
        if n not in own or own[n].shape != x.shape
    ]
    if wrong:
        raise DataError(f"train.init: {path} does not fit this discriminator: {_few(wrong)}")
    require_finite(path, stored)
    for n, tensor in stored.items():
        own[n].copy_(tensor)
    new = [n for n in own if n not in stored]
    return f"starting from {path}" + (f"; new are {_few(new)}" if new else "")


def _few(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
