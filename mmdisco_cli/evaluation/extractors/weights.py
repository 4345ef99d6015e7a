"""Files of weights that the user gives: hashed, compared with the published ones, never unpickled as code."""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmdisco_cli import console
from mmdisco_cli.errors import DataError, UsageError, did_you_mean

KNOWN = {
    "a867b87ac3a9097d200598b1d48a1b890d8ec744": "i3d_pretrained_400.pt",
    "93daef59c7ae0e9e8f76225521407e60cbafa6aa": "i3d_torchscript.pt",
}
"""Published files by their git blob hash, as `git hash-object FILE` prints it."""
KNOWN_SHA256 = {"10086976": "vggish-10086976.pth"}
"""Published files by the beginning of their SHA-256, which their own name holds."""


def require_file(name: str, weights: str | None) -> Path:
    """Return the path of a file of weights; raise UsageError without one, DataError where it is not there."""
    if weights is None:
        raise UsageError(f"--extractor {name}: takes a file of weights: {name}=FILE")
    path = Path(weights)
    if not path.is_file():
        raise DataError(f"{path}: no such file of weights")
    return path


def choose_preset(name: str, asked: str | None, presets: Iterable[str]) -> str:
    """Return the preset that was asked for, by default the first; raise UsageError where there is no such one."""
    known = list(presets)
    preset = asked or known[0]
    if preset not in known:
        raise UsageError(f"--extractor {name}:{preset}: unknown preset{did_you_mean(preset, known)}")
    return preset


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def identify(path: Path) -> dict[str, Any]:
    """Return a file's SHA-256, git blob hash and published name; warn where it is not a known one."""
    content = path.read_bytes()
    sha = hashlib.sha256(content).hexdigest()
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    known = KNOWN.get(blob) or next((name for head, name in KNOWN_SHA256.items() if sha.startswith(head)), None)
    if known is None:
        console.warn(f"{path}: not one of the published files, so its values compare with nobody's (blob {blob})")
    return {"file": path.name, "sha256": sha, "git_blob": blob, "published_as": known}


def fill(module: nn.Module, path: Path) -> nn.Module:
    """Load a state dict into a module in evaluation mode; raise DataError, naming the file, where it does not fit."""
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the unpickler meets, the file is to blame
        raise DataError(f"{path}: no PyTorch file of tensors alone ({type(error).__name__})") from error
    state: Mapping[str, Any] = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else {}
    try:
        module.load_state_dict({name.removeprefix("module."): tensor for name, tensor in state.items()})
    except (RuntimeError, AttributeError) as error:
        first = (str(error).splitlines() or [""])[-1].strip()
        raise DataError(f"{path}: not weights of this network: {first[:160]}") from error
    return module.eval().requires_grad_(False)
