"""Words that training puts into the names of tensors, and that are none of the network's."""

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from mmdisco_cli.errors import DataError

ANYWHERE = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Of torch.compile, FSDP and recomputed activations, which wrap parts of a network too."""
FIRST = ("module", "_forward_module", "model", "net", "discriminator")
"""Of DataParallel, DeepSpeed and the usual attributes of a training module, where every name begins with it."""
_FLAT = "_flat_param"


def unwrapped(path: Path, tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Return tensors by their networks' own names, and the words that were taken out of these.

    Raises:
        DataError: two tensors would have one name, or FSDP has flattened them into one.
    """
    if flat := next((name for name in tensors if name.rpartition(".")[2] == _FLAT), None):
        raise DataError(f"{path}: {flat} is what FSDP makes of many tensors: save a full state_dict instead")
    renamed, removed = {name: name for name in tensors}, list[str]()
    for word in ANYWHERE:
        if any(word in name.split(".") for name in tensors):
            renamed = {name: _without(word, short) for name, short in renamed.items()}
            removed.append(word)
    while first := _shared(renamed.values()):
        renamed = {name: short.removeprefix(f"{first}.") for name, short in renamed.items()}
        removed.append(first)
    if len(set(renamed.values())) < len(renamed):
        raise DataError(f"{path}: two of its tensors have one name without {', '.join(removed)}")
    return {renamed[name]: tensor for name, tensor in tensors.items()}, removed


def _without(word: str, name: str) -> str:
    return ".".join(part for part in name.split(".") if part != word)


def _shared(names: Iterable[str]) -> str:
    """Return the wrapper's word that all names begin with, empty where there is none."""
    known = list(names)
    return next((word for word in FIRST if known and all(name.startswith(f"{word}.") for name in known)), "")
