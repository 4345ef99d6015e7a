"""Weights that a recipe names and nobody has yet: what each file is, how large, and how it gets here."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mmdisco_cli.conversion.published import DISCRIMINATOR, ENLARGER, PUBLISHED, UNET, Published, about_aist
from mmdisco_cli.errors import DataError
from mmdisco_cli.hookspecs import BackboneSpec
from mmdisco_cli.paper.configs import RELEASED
from mmdisco_cli.recipes.hints import command_line, how_trained, present_command, train_command
from mmdisco_cli.recipes.schema import Component, Recipe

ROLES = {("mmdiffusion", "weights"): UNET, ("mmdiffusion", "sr_weights"): ENLARGER}
"""What a backbone's option holds, by the backbone's name and the option's."""
SIZES = {
    UNET: "535 MB",
    ENLARGER: "1.24 GB",
    "mmdiffusion_landscape": "51 MB",
    "mmdiffusion_aist++": "51 MB",
    "audioldm_animediff_vggsound": "133 MB",
    "auffusion_videocrafter2_vggsound": "156 MB",
}
"""About how large a published file is, by its format: four bytes a parameter."""
ALONE = "; or add --independent: the base models alone"


@dataclass(frozen=True)
class Missing:
    """One thing that a recipe lacks: `key` is where the recipe names it, `how` what it is and how it gets here."""

    key: str
    how: str

    def __str__(self) -> str:
        """Say both in a line."""
        return f"{self.key}: {self.how}"


def missing_files(recipe: Recipe, discriminator: bool = True) -> list[Missing]:
    """Return all that a recipe names and that is not there, in the order in which it can be made.

    Without or with the discriminator, which is trained beside all others.
    """
    found = [entry for label, part in recipe.backbones.items() for entry in _of_backbone(recipe, label, part)]
    weights = recipe.sample.weights
    if discriminator and weights is not None and not _is_there(weights):
        found.append(Missing("sample.weights", _how_discriminator(recipe, weights)))
    return found


def require_files(recipe: Recipe, discriminator: bool = True) -> None:
    """Raise DataError with a line for each of what `missing_files` returns, below a summary of several."""
    missing = missing_files(recipe, discriminator)
    if missing and discriminator and recipe.discriminator and recipe.sample.weights is None:
        missing.append(Missing("sample.weights", f"not set: {untrained_discriminator(recipe)}"))
    if missing:
        summary = [f"recipe {recipe.name} lacks {len(missing)} things; in this order:"] if len(missing) > 1 else []
        raise DataError("\n".join([*summary, *map(str, missing)]))


def untrained_discriminator(recipe: Recipe) -> str:
    """Say how a discriminator is trained that a recipe describes without naming its weights."""
    file = f"runs/{recipe.name}/train/discriminator.safetensors"
    how = f"train it (`{train_command(recipe)}`) and give its file with --set {command_line(f'sample.weights={file}')}"
    return how if recipe.train.target == "discriminator" else "it takes a recipe whose train.target is discriminator"


def _of_backbone(recipe: Recipe, label: str, part: Component) -> Iterator[Missing]:
    options = asdict(part.options)
    for option, value in options.items():
        kind = ROLES.get((part.spec.name, option))
        if kind is not None and value and not Path(value).is_file():
            aist = about_aist([recipe.name, value])
            (published,) = (p for p in PUBLISHED if p.kind == kind and about_aist([p.file]) == aist)
            yield Missing(f"backbones.{label}.{option}", _how_published(value, published))
    if part.spec.name == "token" and options.get("weights") and not _is_there(options["weights"]):
        yield Missing(f"backbones.{label}.weights", _how_base_model(recipe, options["weights"]))
    lacks = part.spec.lacks if isinstance(part.spec, BackboneSpec) else None
    if lacks is not None:
        yield from (Missing(key, how) for key, how in lacks()(label, part.options))


def _is_there(weights: str) -> bool:
    return not _not_found(weights)


def _not_found(weights: str) -> str:
    """Say what there is in place of weights, empty where they are found."""
    from mmdisco_cli.weights_file import find_weights

    try:
        find_weights(weights)
    except DataError as error:
        return str(error)
    return ""


def _how_base_model(recipe: Recipe, weights: str) -> str:
    command = how_trained(weights, recipe)
    return f"no {weights}: this base model must be trained first: `{command}`" if command else _not_found(weights)


def _how_discriminator(recipe: Recipe, weights: str) -> str:
    if command := how_trained(weights, recipe):
        alone = ALONE if present_command() == "sample" else ""
        return f"no {weights}: the discriminator must be trained first: `{command}`{alone}"
    published = _discriminator(recipe, weights)
    return _how_published(weights, published) if published else _not_found(weights)


def _how_published(path: str, source: Published) -> str:
    asked = ["--format", source.format] if source.kind == DISCRIMINATOR else []
    command = command_line("mmdisco", "convert", source.file, path, *asked)
    size = SIZES[source.format]
    return f"no {path}, {source.what}: download {source.file} (about {size}) from {source.where}, then: {command}"


def _discriminator(recipe: Recipe, weights: str) -> Published | None:
    """Return the released discriminator that belongs to a recipe, None where it asks for another architecture."""
    if recipe.discriminator is None or not recipe.discriminator.spec.name.startswith("paper-"):
        return None
    own = [name for name, released in RELEASED.items() if released.recipe == recipe.name]
    if not own and recipe.discriminator.spec.name == "paper-waveform":
        own = ["mmdiffusion_aist++" if about_aist([recipe.name, weights]) else "mmdiffusion_landscape"]
    return next((p for p in PUBLISHED if p.format in own), None)
