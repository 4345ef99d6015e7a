"""Options of the paper's discriminators in a recipe; torch-free, since `mmdisco plugins` reads them."""

from dataclasses import dataclass

from mmdisco_cli.schema import option

PAPER_SCHEDULES = ("vp-linear", "vp-scaled-linear", "vp-audioldm", "vp-videocrafter2")
"""Noise schedules of the base models that the released discriminators were trained with; all have 1,000 times."""


@dataclass(frozen=True)
class PaperWaveformOptions:
    """The paper's discriminator of pixels and a waveform, as released for MM-Diffusion on Landscape and AIST++."""

    channels: int = option(128, "channels of the first level, a multiple of 32", minimum=32)
    blocks: int = option(2, "residual blocks per level", minimum=1)
    dilations: int = option(10, "audio convolutions are dilated by 2^k, k running below this", minimum=1)
    fusion: str = option("mean", "combines the modalities; mean cannot align them", choices=("mean", "transformer"))
    audio_schedule: str = option("vp-linear", "whose time the network takes", choices=PAPER_SCHEDULES)
    video_schedule: str = option("vp-linear", "of the video, for the form released", choices=PAPER_SCHEDULES)


@dataclass(frozen=True)
class PaperMelOptions:
    """The paper's discriminator of video and mel latents, as released for AudioLDM with AnimateDiff and two others."""

    channels: int = option(128, "channels of the first level, a multiple of 32", minimum=32)
    blocks: int = option(4, "residual blocks per level", minimum=1)
    dilations: int = option(1, "audio convolutions are dilated by 2^k, k running below this", minimum=1)
    fusion: str = option("mean", "combines the modalities; mean cannot align them", choices=("mean", "transformer"))
    audio_schedule: str = option("vp-audioldm", "whose time the network takes", choices=PAPER_SCHEDULES)
    video_schedule: str = option("vp-scaled-linear", "of the video, for the form released", choices=PAPER_SCHEDULES)
