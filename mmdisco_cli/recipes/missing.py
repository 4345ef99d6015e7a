"""Weights that a recipe names and that are missing: what each file is, how large, and how it gets here."""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from mmdisco_cli.errors import DataError
from mmdisco_cli.hookspecs import BackboneSpec, DiscriminatorSpec, Wanted
from mmdisco_cli.recipes.hints import command_line, how_trained, present_command, present_folder, train_command
from mmdisco_cli.recipes.schema import Component, Recipe, value_at

ALONE = "; or add --independent: the base models alone"


@dataclass(frozen=True)
class Missing:
    """One thing that a recipe lacks: `key` is where the recipe names it, `how` what it is and how it gets here."""

    key: str
    how: str | Wanted

    @property
    def fetchable(self) -> Wanted | None:
        """Return what `--download` fetches for it, None where it must be made otherwise."""
        return self.how if isinstance(self.how, Wanted) and self.how.published.fetchable else None

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
    if missing:
        missing += _unnamed(recipe, discriminator)
        summary = [f"recipe {recipe.name} lacks {len(missing)} things; in this order:"] if len(missing) > 1 else []
        raise DataError("\n".join([*summary, *map(str, missing), *_beside(recipe, missing)]))


def _beside(recipe: Recipe, missing: Sequence[Missing]) -> list[str]:
    """Say that what is missing lies beside the recipe's file, from whose folder it was meant; nothing otherwise."""
    folder = present_folder()
    if folder is None:
        return []
    plain = recipe.to_dict()
    values = [value_at(plain, entry.key) for entry in missing]
    found = [folder / value for value in values if isinstance(value, str) and value]
    there = [path for path in found if path.exists()]
    return (
        [f"{there[0]} is there, but paths count from the folder in which you are: run it in {folder}"] if there else []
    )


def require_initial(recipe: Recipe) -> None:
    """Raise DataError where there is nothing that training would go on from, with the command that makes it."""
    init = recipe.train.init
    if init and not _is_there(init):
        raise DataError(str(Missing("train.init", _how_trained_first(recipe, init, "what training goes on from"))))


def fetchable_files(recipe: Recipe, discriminator: bool = True) -> dict[str, Wanted]:
    """Return all that a recipe lacks and `--download` fetches, by key; raise DataError as `require_files` otherwise."""
    missing = missing_files(recipe, discriminator)
    found = {entry.key: wanted for entry in missing if (wanted := entry.fetchable)}
    # Whoever has to make something else first would wait for gigabytes in vain.
    if len(found) < len(missing) or _unnamed(recipe, discriminator):
        require_files(recipe, discriminator)
    return found


def _unnamed(recipe: Recipe, discriminator: bool) -> list[Missing]:
    """Return the discriminator that is described without naming its weights, nothing where there is no such one."""
    if not (discriminator and recipe.discriminator and recipe.sample.weights is None):
        return []
    return [Missing("sample.weights", f"not set: {untrained_discriminator(recipe)}")]


def untrained_discriminator(recipe: Recipe) -> str:
    """Say how a discriminator is trained that a recipe describes without naming its weights."""
    file = _own_file(recipe)
    how = f"train it (`{train_command(recipe)}`) and give its file with --set {command_line(f'sample.weights={file}')}"
    return how if recipe.train.target == "discriminator" else "it takes a recipe whose train.target is discriminator"


def _of_backbone(recipe: Recipe, label: str, part: Component) -> Iterator[Missing]:
    options = asdict(part.options)
    if part.spec.name == "token" and options.get("weights") and not _is_there(options["weights"]):
        yield Missing(f"backbones.{label}.weights", _how_trained_first(recipe, options["weights"], "this base model"))
    lacks = part.spec.lacks if isinstance(part.spec, BackboneSpec) else None
    if lacks is not None:
        lacking = lacks()
        named = {"recipe": recipe.name} if "recipe" in inspect.signature(lacking).parameters else {}
        yield from (Missing(key, how) for key, how in lacking(label, part.options, **named))


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


def _how_trained_first(recipe: Recipe, weights: str, what: str) -> str:
    command = how_trained(weights, recipe)
    return f"no {weights}: {what} must be trained first: `{command}`" if command else _not_found(weights)


def _own_file(recipe: Recipe) -> str:
    """Return where a recipe's own training leaves its discriminator."""
    return f"runs/{recipe.name}/train/discriminator.safetensors"


def _trained(recipe: Recipe) -> str:
    """Name the weights that this recipe's own training left, where it names those of another one."""
    file = _own_file(recipe)
    return "" if _not_found(file) else f"; or use what was trained: --set {command_line(f'sample.weights={file}')}"


def _how_discriminator(recipe: Recipe, weights: str) -> str | Wanted:
    if command := how_trained(weights, recipe):
        alone = ALONE if present_command() == "sample" else ""
        return f"no {weights}: the discriminator must be trained first: `{command}`{_trained(recipe)}{alone}"
    spec = recipe.discriminator.spec if recipe.discriminator else None
    lacks = spec.lacks if isinstance(spec, DiscriminatorSpec) else None
    return (lacks()(recipe.name, weights) if lacks else "") or _not_found(weights)
