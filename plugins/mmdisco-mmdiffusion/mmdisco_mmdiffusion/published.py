"""MM-Diffusion's checkpoints as its authors publish them, and how a recipe that lacks one gets it; torch-free."""

from collections.abc import Iterator
from pathlib import Path

from mmdisco_cli.hookspecs import Published, Wanted
from mmdisco_mmdiffusion.options import MMDiffusionOptions

UNET, ENLARGER = "mmdiffusion-unet", "mmdiffusion-sr"
"""What `--format` takes, and what converted files call their architecture."""
WHERE = "the Google Drive folder under https://github.com/researchmm/MM-Diffusion#models"
FOLDER = "1Mno4A3BUXELAdX4m650CJ1VfuMVlkz5p"
"""That folder's id, as their README gives it; the ids of the files in it are looked up there."""


def _published(file: str, what: str, size: str, recipe: str = "") -> Published:
    return Published(file, what, WHERE, size, recipe, drive_folder=FOLDER, licence="MIT")


UNETS = (
    _published("Landscape.pt", "MM-Diffusion's coupled U-Net, trained on Landscape", "535 MB", "landscape"),
    _published("AIST++.pt", "MM-Diffusion's coupled U-Net, trained on AIST++", "535 MB", "aist"),
)
ENLARGERS = (
    _published("Landscape_SR.pt", "its super-resolution network, trained on Landscape", "1.24 GB"),
    _published("AIST++_SR.pt", "its super-resolution network, trained on AIST++", "1.24 GB"),
)
_FILES = {"weights": UNETS, "sr_weights": ENLARGERS}


def files_lacked(label: str, options: MMDiffusionOptions, recipe: str = "") -> Iterator[tuple[str, Wanted]]:
    """Yield the recipe's key of each file that is not there, and which published one belongs there.

    Those trained on AIST++ are meant where recipe or file is named after it, those trained on Landscape elsewhere.
    """
    for option, (landscape, aist) in _FILES.items():
        path = getattr(options, option)
        if path and not Path(path).is_file():
            about_aist = "aist" in f"{recipe} {path}".lower()
            yield f"backbones.{label}.{option}", Wanted(aist if about_aist else landscape, path)
