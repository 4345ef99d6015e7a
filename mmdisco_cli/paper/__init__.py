"""The paper's discriminators (MMDisCo, arXiv 2405.17842), as its authors released them.

    from mmdisco_cli import paper

    discriminator = paper.load_discriminator("landscape.safetensors")
    latents = paper.guided_sample(discriminator, epsilon, noise, sampler="dpmpp_3s", steps=20, threshold=0.995)

README.md in this folder says how the frozen networks compute their gradient.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmdisco_cli.paper.api import build_discriminator, configuration, guided_sample, load_discriminator

__all__ = ["build_discriminator", "configuration", "guided_sample", "load_discriminator"]


def __getattr__(name: str) -> Any:
    """Return a function of `paper.api`, imported at first use: `paper.configs` and `paper.options` need no torch."""
    if name in __all__:
        return getattr(import_module("mmdisco_cli.paper.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
