"""One of our files of a paper discriminator, in the layout that its authors' code loads."""

from pathlib import Path

import torch

from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.paper import load_discriminator
from mmdisco_cli.weights_file import any_about, save_pickled

SUFFIXES = (".pt", ".pth", ".ckpt")


def export(source: Path, destination: Path) -> None:
    """Write a discriminator's tensors, in float32, as torch.save does, whole or not at all.

    Raises:
        UsageError: the destination is not named like a file of torch.save.
        DataError: the source is not a discriminator of the paper's architectures, or damaged; or writing fails.
    """
    about = any_about(source)
    name = str(about.get("name") or about.get("architecture") or about.get("kind"))
    if not name.startswith("paper-"):
        raise DataError(f"{source}: is a file of ours that holds {name}, for which the authors' code has no layout")
    if destination.suffix not in SUFFIXES:
        raise UsageError(f"{destination}: {source} is converted already; back into the authors' layout it is a .pt")
    tensors = load_discriminator(source).state_dict()
    # Ours lie channels last in memory; each with memory of its own, in the order of axes that the authors' have.
    own = {name: x.detach().clone(memory_format=torch.contiguous_format) for name, x in sorted(tensors.items())}
    save_pickled(destination, own)
