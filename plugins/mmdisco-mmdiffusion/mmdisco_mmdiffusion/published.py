"""MM-Diffusion's checkpoints as its authors publish them, and how a recipe that lacks one gets it; torch-free."""

from collections.abc import Iterator
from pathlib import Path

from mmdisco_cli.hookspecs import Published
from mmdisco_mmdiffusion.options import MMDiffusionOptions

UNET, ENLARGER = "mmdiffusion-unet", "mmdiffusion-sr"
"""What `--format` takes, and what converted files call their architecture."""
WHERE = "the Google Drive folder under https://github.com/researchmm/MM-Diffusion#models"
_UNET_SIZE, _ENLARGER_SIZE = "535 MB", "1.24 GB"
UNETS = (
    Published(
        "Landscape.pt", "MM-Diffusion's coupled U-Net, trained on Landscape", WHERE, _UNET_SIZE, recipe="landscape"
    ),
    Published("AIST++.pt", "MM-Diffusion's coupled U-Net, trained on AIST++", WHERE, _UNET_SIZE, recipe="aist"),
)
ENLARGERS = (
    Published("Landscape_SR.pt", "its super-resolution network, trained on Landscape", WHERE, _ENLARGER_SIZE),
    Published("AIST++_SR.pt", "its super-resolution network, trained on AIST++", WHERE, _ENLARGER_SIZE),
)
_FILES = {"weights": UNETS, "sr_weights": ENLARGERS}


def files_lacked(label: str, options: MMDiffusionOptions, recipe: str = "") -> Iterator[tuple[str, str]]:
    """Yield the recipe's key of each file that is not there, and a sentence with the command that makes it.

    Those trained on AIST++ are meant where recipe or file is named after it, those trained on Landscape elsewhere.
    """
    for option, (landscape, aist) in _FILES.items():
        path = getattr(options, option)
        if path and not Path(path).is_file():
            about_aist = "aist" in f"{recipe} {path}".lower()
            yield f"backbones.{label}.{option}", (aist if about_aist else landscape).how_to_get(path)
