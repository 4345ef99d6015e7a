"""One of our files of a paper discriminator, in the layout that its authors' code loads."""

import os
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.paper import load_discriminator
from mmdisco_cli.weights_file import any_about

SUFFIXES = (".pt", ".pth", ".ckpt")


def export(source: Path, destination: Path) -> None:
    """Write a discriminator's tensors, in float32, as torch.save does, whole or not at all.

    Raises:
        UsageError: the destination is not named like a file of torch.save.
        DataError: the source is no discriminator of the paper's architectures, or damaged; or nothing can be written.
    """
    about = any_about(source)
    name = str(about.get("name") or about.get("architecture") or about.get("kind"))
    if not name.startswith("paper-"):
        raise DataError(f"{source}: is a file of ours that holds {name}, for which the authors' code has no layout")
    if destination.suffix not in SUFFIXES:
        raise UsageError(f"{destination}: {source} is converted already; back into the authors' layout it is a .pt")
    module = load_discriminator(source)
    _save({key: tensor.contiguous() for key, tensor in module.state_dict().items()}, destination)


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            # Into an open file: given a path, torch would write the path into what it saves.
            torch.save(_plain(tensors), file)
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path}: cannot be written ({error})") from error
    finally:
        partial.unlink(missing_ok=True)


def _plain(tensors: dict[str, Tensor]) -> dict[str, Any]:
    return {name: tensor.detach().clone() for name, tensor in sorted(tensors.items())}
