"""The files of other projects that can be converted: what each is, and where its authors publish it; torch-free."""

from collections.abc import Iterable
from dataclasses import dataclass

MMDISCO = "https://huggingface.co/AkioHayakawa/MMDisCo"
MMDIFFUSION = "the Google Drive folder under https://github.com/researchmm/MM-Diffusion#models"
UNET, ENLARGER, DISCRIMINATOR = "mmdiffusion-unet", "mmdiffusion-sr", "discriminator"


@dataclass(frozen=True)
class Published:
    """One file as its authors publish it; `kind` is UNET, ENLARGER or DISCRIMINATOR, `format` its `--format`."""

    file: str
    what: str
    where: str
    kind: str
    format: str


PUBLISHED: tuple[Published, ...] = (
    Published(
        "mmdiffusion_landscape.pt", "the paper's discriminator for MM-Diffusion on Landscape", MMDISCO, DISCRIMINATOR,
        "mmdiffusion_landscape",
    ),
    Published(
        "mmdiffusion_aist++.pt", "the paper's discriminator for MM-Diffusion on AIST++", MMDISCO, DISCRIMINATOR,
        "mmdiffusion_aist++",
    ),
    Published(
        "audioldm_animediff_vggsound.pt", "the paper's discriminator for AudioLDM and AnimateDiff", MMDISCO,
        DISCRIMINATOR, "audioldm_animediff_vggsound",
    ),
    Published(
        "auffusion_videocrafter2_vggsound.pt", "the paper's discriminator for Auffusion and VideoCrafter2", MMDISCO,
        DISCRIMINATOR, "auffusion_videocrafter2_vggsound",
    ),
    Published("Landscape.pt", "MM-Diffusion's coupled U-Net, trained on Landscape", MMDIFFUSION, UNET, UNET),
    Published("Landscape_SR.pt", "its super-resolution network, trained on Landscape", MMDIFFUSION, ENLARGER, ENLARGER),
    Published("AIST++.pt", "MM-Diffusion's coupled U-Net, trained on AIST++", MMDIFFUSION, UNET, UNET),
    Published("AIST++_SR.pt", "its super-resolution network, trained on AIST++", MMDIFFUSION, ENLARGER, ENLARGER),
)  # fmt: skip


def formats() -> list[str]:
    """Return every name that `--format` takes."""
    return sorted({entry.format for entry in PUBLISHED})


def about_aist(texts: Iterable[str]) -> bool:
    """Return whether names speak of AIST++ rather than of Landscape, which share their architectures."""
    return any("aist" in text.lower() for text in texts)
