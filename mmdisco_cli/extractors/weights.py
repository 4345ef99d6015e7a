"""Files of weights that the user gives: hashed, compared with the published ones, never unpickled as code."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmdisco_cli.errors import DataError, UsageError, did_you_mean
from mmdisco_cli.run import console
from mmdisco_cli.schema import at_home

KNOWN = {
    "a867b87ac3a9097d200598b1d48a1b890d8ec744": "i3d_pretrained_400.pt",
    "93daef59c7ae0e9e8f76225521407e60cbafa6aa": "i3d_torchscript.pt",
    "fa7df95674dbf3579e7fccd954e51e706b4734c1": "kinetics-i3d rgb_scratch, model.ckpt.data-00000-of-00001",
}
"""Published files by their git blob hash, as `git hash-object FILE` prints it."""
KNOWN_SHA256 = {
    "10086976": "vggish-10086976.pth",
    "d6f6c22bedcc90708448d5d2fbb7b2db9c73f505dc89bd0b2e09b23af1b62157": "imagebind_huge.pth",
    "8aff082f2df5c3bc52759db0c865c7ee772ae6400b860d1b7e90413f2defb67c": "synchformer_state_dict.pth",
}
"""Published files by the beginning of their SHA-256; that of VGGish stands in its own name."""
Renamed = Callable[[Mapping[str, Tensor]], Mapping[str, Tensor]]


def require_file(name: str, weights: str | None) -> Path:
    """Return the path of a file of weights; raise UsageError without one, DataError where it is not there."""
    if weights is None:
        raise UsageError(f"--extractor {name}: takes a file of weights: {name}=FILE")
    path = Path(at_home(weights))
    if not path.is_file():
        raise DataError(f"{path}: no such file of weights")
    return path


def choose_preset(name: str, chosen: str | None, presets: Iterable[str]) -> str:
    """Return the preset that was named, by default the first; raise UsageError where there is no such one."""
    known = list(presets)
    preset = chosen or known[0]
    if preset not in known:
        raise UsageError(f"--extractor {name}:{preset}: unknown preset{did_you_mean(preset, known)}")
    return preset


def identify(path: Path) -> dict[str, Any]:
    """Return a file's SHA-256, git blob hash and published name; warn where it is not a known one."""
    sha = hashlib.sha256()
    blob = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            for each in (sha, blob):
                each.update(piece)
    found = {"file": path.name, "sha256": sha.hexdigest(), "git_blob": blob.hexdigest()}
    by_sha = next((name for head, name in KNOWN_SHA256.items() if found["sha256"].startswith(head)), None)
    known = KNOWN.get(found["git_blob"]) or by_sha
    if known is None:
        console.warn(
            f"{path}: none of the files whose hashes are known here, so its values may compare with nobody's "
            f"(SHA-256 {found['sha256']}, blob {found['git_blob']})"
        )
    return {**found, "published_as": known}


def fill(module: nn.Module, path: Path, renamed: Renamed | None = None) -> nn.Module:
    """Load a state dict into a module in evaluation mode; `renamed` turns the file's tensors into the module's.

    Raises:
        DataError: the file, which is named, does not fit.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler meets, the file is to blame
        raise DataError(f"{path}: no PyTorch file of tensors alone ({type(error).__name__})") from error
    state: Mapping[str, Any] = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else {}
    plain = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return fill_from(module, plain, path, renamed)


def fill_from(module: nn.Module, state: Mapping[str, Tensor], path: Path, renamed: Renamed | None = None) -> nn.Module:
    """Put tensors that were read from a file into a module; raise DataError, naming the file, where they do not fit."""
    # What was made without memory takes over the tensors of the file.
    bare = any(tensor.is_meta for tensor in module.parameters())
    try:
        found = renamed(state) if renamed else state
        module.load_state_dict({name: one.float() for name, one in found.items()} if bare else found, assign=bare)
    except (RuntimeError, AttributeError, KeyError) as error:
        first = (str(error).splitlines() or [""])[-1].strip()
        raise DataError(f"{path}: not weights of this network: {first[:160]}") from error
    return module.eval().requires_grad_(False)
