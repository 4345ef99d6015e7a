"""The paper's discriminators as their authors publish them, and what provides them here; torch-free."""

from collections.abc import Iterable

from mmdisco_cli.hookspecs import ConverterSpec, Published, Wanted, lazy
from mmdisco_cli.paper.configs import RELEASED

REPOSITORY = "AkioHayakawa/MMDisCo"
MMDISCO = f"https://huggingface.co/{REPOSITORY}"
PUBLISHED = {
    "mmdiffusion_landscape": ("the paper's discriminator for MM-Diffusion on Landscape", "51 MB"),
    "mmdiffusion_aist++": ("the paper's discriminator for MM-Diffusion on AIST++", "51 MB"),
    "audioldm_animediff_vggsound": ("the paper's discriminator for AudioLDM and AnimateDiff", "133 MB"),
    "auffusion_videocrafter2_vggsound": ("the paper's discriminator for Auffusion and VideoCrafter2", "156 MB"),
}
"""What each file holds and about how large it is, four bytes a parameter, by its format and its name without .pt."""


def converters() -> list[ConverterSpec]:
    """Describe a converter for each released discriminator."""
    build = lazy("mmdisco_cli.conversion.discriminators:candidates")
    return [
        ConverterSpec(name, what, build, 1, published=(published(name),), key="sample.weights")
        for name, (what, _) in PUBLISHED.items()
    ]


def published(name: str) -> Published:
    """Return the file of a released discriminator."""
    what, size = PUBLISHED[name]
    return Published(f"{name}.pt", what, MMDISCO, size, RELEASED[name].recipe, hub=REPOSITORY, licence="MIT")


def how_to_get_waveform(recipe: str, weights: str) -> Wanted:
    """Return which file has missing weights of a paper-waveform discriminator: either of two fits any recipe."""
    fallback = "mmdiffusion_aist++" if about_aist([recipe, weights]) else "mmdiffusion_landscape"
    return _wanted(_of_recipe(recipe) or fallback, weights)


def how_to_get_mel(recipe: str, weights: str) -> Wanted | None:
    """Return which file has missing weights of a paper-mel discriminator, None for a recipe that none belongs to."""
    name = _of_recipe(recipe)
    return _wanted(name, weights) if name else None


def about_aist(texts: Iterable[str]) -> bool:
    """Return whether names speak of AIST++ rather than of Landscape, which share one architecture."""
    return any("aist" in text.lower() for text in texts)


def _of_recipe(recipe: str) -> str:
    return next((name for name, released in RELEASED.items() if released.recipe == recipe), "")


def _wanted(name: str, weights: str) -> Wanted:
    return Wanted(published(name), weights, name)
