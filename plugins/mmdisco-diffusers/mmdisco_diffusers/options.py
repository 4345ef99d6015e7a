"""Options of models from diffusers in a recipe; torch-free, because listing plugins imports them."""

from collections.abc import Mapping
from dataclasses import dataclass

from mmdisco_cli.schema import option


@dataclass(frozen=True)
class ModelOptions:
    """A pipeline on disk, and where its parts are kept."""

    path: str = option("", "folder of the pipeline, or its name on the hub where it is in the cache", path=True)
    dtype: str = option("float32", "of the denoiser and the text encoders", choices=("float32", "bfloat16", "float16"))
    offload: str = option(
        "none", "parts that visit the device only while they work", choices=("none", "codec", "group")
    )
    devices: Mapping[str, str] = option({}, "where denoiser, codec or text work, if not on the run's device")
    text: str = option("cpu", "where text encoders wait between prompts", choices=("keep", "cpu", "free"))
    tiling: bool = option(False, "decode video or audio in overlapping tiles")
    slicing: bool = option(False, "decode one sample at a time inside the codec")
    chunk: int = option(8, "samples (frames, for an image codec) that pass through the codec together", minimum=1)
    clean_end: bool = option(False, "end without noise where the scheduler would keep that of its first level")
    pooled: bool = option(False, "pass the prompt to the discriminator; only for one that was trained with prompts")


@dataclass(frozen=True)
class MelOptions(ModelOptions):
    """A model of mel spectrograms."""

    normalise: bool = option(True, "scale given audio to the peak of 0.5 that these models were trained on")


@dataclass(frozen=True)
class StableAudioOptions(ModelOptions):
    """Stable Audio Open."""

    full: bool = option(True, "make all 47.5 s, as trained, and cut; false makes only the requested length")


@dataclass(frozen=True)
class AuffusionOptions(MelOptions):
    """Auffusion: a Stable Diffusion of mel spectrograms, and its vocoder."""

    vocoder: str | None = option(None, "folder of the vocoder, where it is not the pipeline's own `vocoder`", path=True)
    padded: bool = option(True, "pad to the trained 10.24 s with noised silence at every step, as in the paper")


@dataclass(frozen=True)
class VideoCrafter2Options(ModelOptions):
    """VideoCrafter 2: a U-Net beside the text encoder and codec of a ModelScope or ZeroScope."""

    unet: str = option("", "folder of VideoCrafter's U-Net, or its name on the hub", path=True)
    conditioning_fps: float = option(
        24.0, "frame rate that the model is conditioned on", minimum=1, formerly="told_fps"
    )
    mismatch: bool = option(False, "the levels that the paper sampled with, not those that the model was trained on")


@dataclass(frozen=True)
class HunyuanVideoOptions(ModelOptions):
    """HunyuanVideo, which was distilled from its own guidance."""

    embedded_guidance_scale: float = option(
        6.0, "guidance scale that the model is conditioned on", minimum=0, formerly="told_scale"
    )


@dataclass(frozen=True)
class LTX2Options(ModelOptions):
    """LTX-2, guided as its pipeline guides it; without effect where every CFG scale is 1."""

    modality_scale: float = option(
        3.0, "guidance away from the model without attention between streams; 1 none", minimum=1
    )
    stg_scale: float = option(1.0, "guidance away from the model without some blocks' attention; 0 none", minimum=0)
    stg_blocks: tuple[int, ...] | None = option(None, "those blocks, if not 29 of LTX-2.0 or 28 of 2.3", minimum=0)
    rescale: float = option(0.7, "how far to rescale to the standard deviation without guidance", minimum=0, maximum=1)


@dataclass(frozen=True)
class AnimateDiffOptions(ModelOptions):
    """AnimateDiff, whole or as a motion adapter for a Stable Diffusion."""

    adapter: str | None = option(None, "motion adapter, where `path` is a Stable Diffusion", path=True)
    betas: str | None = option(
        None, "schedule of the betas, where it is not the scheduler's own", choices=("linear", "scaled_linear")
    )


@dataclass(frozen=True)
class LockstepOptions:
    """Any pipeline, unmodified; it can only sample."""

    path: str = option("", "folder of the pipeline, or its name on the hub where it is in the cache", path=True)
    dtype: str = option("float32", "of the whole pipeline", choices=("float32", "bfloat16", "float16"))
    rate: float | None = option(None, "sample rate of its audio in Hz, where its files do not say", minimum=1)
    arguments: Mapping[str, float] = option({}, "further numbers that it is called with, by their own names")
    latent: tuple[int, ...] = option((), "shape of a sample's latents, for a discriminator: channels first, no batch")
    axes: tuple[int, ...] = option((), "order of the scheduler's axes that makes this shape, batch not counted")
    stands_for: str | None = option(
        None, "fingerprint of the model beside which the discriminator was trained, where it was another"
    )
