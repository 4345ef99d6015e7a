"""The entry point: descriptions alone, nothing heavy is imported."""

from collections.abc import Iterable

from mmdisco_cli.hookspecs import BackboneSpec, ConverterSpec, hookimpl, lazy
from mmdisco_mmdiffusion.options import MMDiffusionOptions
from mmdisco_mmdiffusion.published import ENLARGER, ENLARGERS, UNET, UNETS


@hookimpl
def mmdisco_backbones() -> Iterable[BackboneSpec]:
    """Describe the coupled U-Net."""
    yield BackboneSpec(
        "mmdiffusion",
        "MM-Diffusion: audio and video from one coupled U-Net",
        MMDiffusionOptions,
        lazy("mmdisco_mmdiffusion.backbone:build"),
        api_version=1,
        modalities=("audio", "video"),
        outline=lazy("mmdisco_mmdiffusion.outline:build"),
        lacks=lazy("mmdisco_mmdiffusion.published:files_lacked"),
    )


@hookimpl
def mmdisco_converters() -> Iterable[ConverterSpec]:
    """Describe the published checkpoints of both networks."""
    build, label = lazy("mmdisco_mmdiffusion.converting:candidates"), "backbones.film"
    yield ConverterSpec(UNET, "MM-Diffusion's coupled U-Net", build, 1, published=UNETS, key=f"{label}.weights")
    yield ConverterSpec(
        ENLARGER, "MM-Diffusion's super-resolution", build, 1, published=ENLARGERS, key=f"{label}.sr_weights"
    )
