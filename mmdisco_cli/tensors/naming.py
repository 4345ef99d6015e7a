"""A name for the content of a network."""

import hashlib

from torch import nn

from mmdisco_cli.run.files import SHORT


def weights_fingerprint(module: nn.Module, beside: str = "") -> str:
    """Return 16 hex digits that change with any value or name among a module's tensors, and with `beside`."""
    digest = hashlib.sha256(beside.encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()[:SHORT]
