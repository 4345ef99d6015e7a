"""Join pre-trained single-modality diffusion models into one joint generator."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmdisco_cli.api import JointModel, Sample, Step, load, sheet

__all__ = ["JointModel", "Sample", "Step", "__version__", "load", "sheet"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Only when it is used: the command line starts without torch.
    if name in __all__:
        return getattr(import_module("mmdisco_cli.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
