"""What of a recipe decides the weights that training ends with; a run may be resumed while none of it changes."""

from collections.abc import Mapping
from typing import Any

from mmdisco_cli.recipes.schema import Recipe, differences

_EVERY = (
    "target", "steps", "batch_size", "learning_rate", "warmup", "weight_decay", "clip", "ema", "seed", "dtype", "bank",
    "time_law",
)  # fmt: skip
_OWN = {
    "backbone": ("codec_steps",),
    "discriminator": ("lambda_disc", "lambda_denoise", "denoise_space", "fakes", "given_fraction"),
}
_JOINT = ("coupling", "discriminator", "sample.window")


def training_sections(recipe: Recipe) -> tuple[str, ...]:
    """Return the dotted sections of the recipe that training depends on."""
    config = recipe.train
    joint = _JOINT if config.target == "discriminator" else ()
    solver = tuple(f"sample.{key}" for key in recipe.sample.solver_keys)
    generated = solver if joint and config.fakes != "shuffled" else ()
    own = (f"train.{key}" for key in (*_EVERY, *_OWN[config.target]))
    return ("data", "request", "backbones", *joint, *generated, *own)


def training_fingerprint(recipe: Recipe) -> str:
    """Return 16 hex digits that change with whatever changes the trained weights; weights files carry it."""
    return recipe.fingerprint(training_sections(recipe))


def changes(stored: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """Name in dotted paths what training depends on and a stored plain recipe has otherwise."""
    sections, plain, stored = training_sections(recipe), recipe.identity(), recipe.identity(stored)
    return differences({s: _lookup(stored, s) for s in sections}, {s: _lookup(plain, s) for s in sections})


def is_raised(stored: Mapping[str, Any], recipe: Recipe) -> bool:
    """Return whether a recipe only asks for more steps than a stored plain one, from which its run can go on."""
    return changes(stored, recipe) == ["train.steps"] and _lookup(stored, "train.steps") < recipe.train.steps


def _lookup(plain: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        plain = plain.get(key) if isinstance(plain, Mapping) else None
    return plain
