"""Converted checkpoints become networks, ready to be called."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import safe_open
from torch import nn

from mmdisco_cli.errors import DataError
from mmdisco_cli.weights_file import find_weights, load_weights, read_about
from mmdisco_mmdiffusion.enlarger import Enlarger
from mmdisco_mmdiffusion.published import ENLARGER, UNET
from mmdisco_mmdiffusion.sizes import enlarger_config, unet_config
from mmdisco_mmdiffusion.unet import CoupledUNet

Network = TypeVar("Network", bound=nn.Module)
Config = TypeVar("Config")


def load_unet(name: str) -> tuple[CoupledUNet, str]:
    """Return the coupled U-Net of a converted file and the file's fingerprint.

    Raises:
        DataError: no such file, one of another architecture, or tensors that do not fit together.
    """
    return _loaded(find_weights(name), UNET, unet_config, CoupledUNet)


def load_enlarger(name: str) -> tuple[Enlarger, str]:
    """Return the super-resolution network of a converted file and its fingerprint; errors as for `load_unet`."""
    return _loaded(find_weights(name), ENLARGER, enlarger_config, Enlarger)


def _loaded(
    path: Path,
    architecture: str,
    config_of: Callable[[Mapping[str, Sequence[int]], Mapping[str, Any]], Config],
    network: Callable[[Config], Network],
) -> tuple[Network, str]:
    about = read_about(path, "backbone")
    if about.get("architecture") != architecture:
        raise DataError(f"{path}: holds {about.get('architecture', 'another model')}, not {architecture}")
    with safe_open(path, framework="pt") as file:
        shapes = {key: file.get_slice(key).get_shape() for key in file.keys()}  # noqa: SIM118 - not a mapping
    try:
        # On no device until the sizes are known to fit: initialising what is overwritten would take seconds.
        with torch.device("meta"):
            built = network(config_of(shapes, about.get("options", {})))
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path}: its tensors are not those of {architecture} ({error})") from error
    module = built.to_empty(device="cpu")
    load_weights(path, module)
    module.eval().requires_grad_(False)
    with path.open("rb") as bytes_of:
        return module, hashlib.file_digest(bytes_of, "sha256").hexdigest()[:16]
