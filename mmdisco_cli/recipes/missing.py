"""Weights that a recipe names and nobody has yet: what each file is, where it is published, and how it gets here."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mmdisco_cli.conversion.published import DISCRIMINATOR, ENLARGER, PUBLISHED, UNET, Published, about_aist
from mmdisco_cli.errors import DataError
from mmdisco_cli.paper.configs import RELEASED
from mmdisco_cli.recipes.schema import Recipe

ROLES = {("mmdiffusion", "weights"): UNET, ("mmdiffusion", "sr_weights"): ENLARGER}
"""What a backbone's option holds, by the backbone's name and the option's."""


@dataclass(frozen=True)
class Missing:
    """One file that must be fetched from its authors and converted to `path`; `key` is the recipe's."""

    key: str
    path: str
    published: Published

    def __str__(self) -> str:
        """Say what it is, where it is to be had, and what to do with it."""
        source = self.published
        return (
            f"{self.key}: no {self.path}, {source.what}: download {source.file} from {source.where}, then: "
            f"{self.command}"
        )

    @property
    def command(self) -> str:
        """The line that puts it in its place."""
        asked = f" --format {self.published.format}" if self.published.kind == DISCRIMINATOR else ""
        return f"mmdisco convert {self.published.file} {self.path}{asked}"


def missing_files(recipe: Recipe, discriminator: bool = True) -> list[Missing]:
    """Return the published weights that a recipe names and that are not there; without or with the discriminator's."""
    found = list(_named_by_backbones(recipe))
    weights = recipe.sample.weights
    if discriminator and weights is not None and (published := _discriminator(recipe, weights)) is not None:
        found.append(Missing("sample.weights", weights, published))
    return [entry for entry in found if not Path(entry.path).is_file()]


def require_files(recipe: Recipe, discriminator: bool = True) -> None:
    """Raise DataError with a line for each file that `missing_files` returns."""
    if missing := missing_files(recipe, discriminator):
        raise DataError("\n".join(map(str, missing)))


def _named_by_backbones(recipe: Recipe) -> Iterator[Missing]:
    for label, component in recipe.backbones.items():
        for option, value in asdict(component.options).items():
            kind = ROLES.get((component.spec.name, option))
            if kind is None or not value:
                continue
            aist = about_aist([recipe.name, value])
            (published,) = (p for p in PUBLISHED if p.kind == kind and about_aist([p.file]) == aist)
            yield Missing(f"backbones.{label}.{option}", value, published)


def _discriminator(recipe: Recipe, weights: str) -> Published | None:
    """Return the released discriminator that belongs to a recipe, None where it asks for another architecture."""
    if recipe.discriminator is None or not recipe.discriminator.spec.name.startswith("paper-"):
        return None
    own = [name for name, released in RELEASED.items() if released.recipe == recipe.name]
    if not own and recipe.discriminator.spec.name == "paper-waveform":
        own = ["mmdiffusion_aist++" if about_aist([recipe.name, weights]) else "mmdiffusion_landscape"]
    return next((p for p in PUBLISHED if p.format in own), None)
