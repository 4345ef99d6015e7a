"""The entry point: descriptions alone, nothing heavy is imported."""

from collections.abc import Iterable

from mmdisco_cli.hookspecs import BackboneSpec, hookimpl, lazy
from mmdisco_mmdiffusion.options import MMDiffusionOptions


@hookimpl
def mmdisco_backbones() -> Iterable[BackboneSpec]:
    """Describe the coupled U-Net."""
    yield BackboneSpec(
        "mmdiffusion",
        "MM-Diffusion: sound and picture from one coupled U-Net",
        MMDiffusionOptions,
        lazy("mmdisco_mmdiffusion.backbone:build"),
        api_version=1,
        modalities=("audio", "video"),
        outline=lazy("mmdisco_mmdiffusion.outline:build"),
    )
