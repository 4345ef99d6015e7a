"""The directory of a training run: its recipe, what it used, and whether it may be resumed.

It may be as long as nothing in the recipe changes that affects the trained weights.
"""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from mmdisco_cli.errors import DataError
from mmdisco_cli.recipes.schema import Recipe, TrainConfig, differences, value_at
from mmdisco_cli.registry.plugins import load_registry
from mmdisco_cli.run.environment import environment
from mmdisco_cli.run.files import make_directory, write_json, write_text
from mmdisco_cli.training.checkpoint import PREVIOUS, STATE, adopt_state

RECIPE, INPUTS, ENVIRONMENT = "recipe.yaml", "inputs.json", "environment.json"
METRICS, PLOT = "metrics.jsonl", "loss.png"
STAGES = ("codec", "denoiser", "generator", "discriminator")
STATES = tuple(f"{stage}/{name}" for stage in STAGES for name in (STATE, PREVIOUS))
ENDING = tuple(name for name in STATES if not name.startswith("codec/"))
"""Those of stages of `train.steps` steps."""
WEIGHTS = ("backbone.safetensors", "discriminator.safetensors")
RELEASE = "release"
"""The folder that can be published."""
BEST, PROGRESS, PREVIEWS, TENSORBOARD, WANDB = (
    "best.safetensors", "progress.html", "previews", "tensorboard", "wandb-run.txt",
)  # fmt: skip

_EVERY = (
    "target", "steps", "batch_size", "learning_rate", "warmup", "weight_decay", "clip", "ema", "seed", "dtype", "bank",
    "noise_levels",
)  # fmt: skip
_OWN = {
    "backbone": ("codec_steps",),
    "discriminator": ("lambda_disc", "lambda_denoise", "denoise_space", "fakes", "given_fraction"),
}
_JOINT = ("coupling", "discriminator", "sample.window")


@dataclass(frozen=True)
class RunDirectory:
    """Where the recipe's training lies; encoded clips under `banks` are named by content and outlive a fresh start."""

    path: Path
    recipe: Recipe
    bank: Path | None = None
    """A folder of encoded clips that other runs use too."""

    @property
    def weights(self) -> Path:
        """Return the file that training ends with."""
        return self.path / f"{self.recipe.train.target}.safetensors"

    @property
    def best(self) -> Path:
        """Return the file of the weights that were best on held-out clips."""
        return self.path / BEST

    @property
    def metrics(self) -> Path:
        """Return the figures of all stages as JSON lines."""
        return self.path / METRICS

    @property
    def banks(self) -> Path:
        """Return the folder of encoded clips and generated fakes."""
        return self.bank or self.path / "bank"

    def begun(self) -> bool:
        """Return whether there is anything here that another recipe would spoil."""
        return any((self.path / name).exists() for name in (*STATES, *WEIGHTS))

    @property
    def stored(self) -> Any:
        """Return the plain recipe of the run that lies here, None where there is none."""
        return _read(self.path / RECIPE) if self.begun() else None

    def require_same_recipe(self) -> None:
        """Raise DataError where a run of another recipe lies here, naming each key that differs.

        More steps than it had are no other recipe.
        """
        stored = self.stored
        if stored is not None and (keys := changes(stored, self.recipe)) and not is_raised(stored, self.recipe):
            only = " (which can only be raised)" if keys == ["train.steps"] else ""
            raise DataError(f"{self.path}: holds a training with another {_listed(keys, only)}")

    def fingerprint(self, inputs: Mapping[str, Any]) -> str:
        """Return what the states of this run carry."""
        return f"{training_fingerprint(self.recipe)}:{inputs}"

    def raise_steps(self, inputs: Mapping[str, Any]) -> str:
        """Let the run that lies here go on to more steps; return what that means, empty where it had as many."""
        stored, recipe = self.stored, self.recipe
        if stored is None or not is_raised(stored, recipe):
            return ""
        before = stored["train"]["steps"]
        former = replace(self, recipe=replace(recipe, train=replace(recipe.train, steps=before))).fingerprint(inputs)
        reached = {name: adopt_state(self.path / name, former, self.fingerprint(inputs)) for name in STATES}
        step = max(reached[name] for name in ENDING)
        return (
            f"train.steps raised from {before} to {recipe.train.steps}: from step {step} on the learning rate follows "
            f"the schedule of {recipe.train.steps} steps, without another warm-up; the weights will not be those of a "
            "training that had them from the start"
        )

    def require_state(self) -> None:
        """Raise DataError where nothing is left of the run from which more steps could be taken."""
        if not any((self.path / name).exists() for name in ENDING):
            raise DataError(
                f"{self.path}: holds no {STATE} to go on from to more train.steps; begin again with --fresh"
            )

    def require_same_inputs(self, inputs: Mapping[str, Any]) -> None:
        """Raise DataError where the data or base models are no longer those that the run began with."""
        stored = _read(self.path / INPUTS) if self.begun() else None
        if stored is not None and (keys := differences(stored, inputs)):
            raise DataError(f"{self.path}: since this training began, the content changed of {_listed(keys)}")

    def claim(self, inputs: Mapping[str, Any]) -> None:
        """Write down what this run is about to use."""
        make_directory(self.path)
        write_text(self.path / RECIPE, self.recipe.to_yaml())
        write_json(self.path / INPUTS, inputs)
        write_json(self.path / ENVIRONMENT, environment(load_registry().statuses))

    def clear(self) -> None:
        """Delete what a run has written, and nothing else."""
        for name in (*STATES, *WEIGHTS, RECIPE, INPUTS, ENVIRONMENT, METRICS, PLOT, BEST, PROGRESS, WANDB):
            (self.path / name).unlink(missing_ok=True)
        for folder in (RELEASE, PREVIEWS, TENSORBOARD):
            shutil.rmtree(self.path / folder, ignore_errors=True)


def training_sections(recipe: Recipe) -> tuple[str, ...]:
    """Return the dotted sections of the recipe that training depends on."""
    config = recipe.train
    joint: tuple[str, ...] = _JOINT if config.target == "discriminator" else ()
    solver = tuple(f"sample.{key}" for key in recipe.sample.solver_keys)
    generated = solver if joint and config.fakes != "shuffled" else ()
    own = (f"train.{key}" for key in (*_EVERY, *_OWN[config.target], *(_later(config) if joint else ())))
    joint += ("coupling_shift",) if joint and recipe.coupling_shift else ()
    return ("data", "request", "backbones", *joint, *generated, *own)


def _later(config: TrainConfig) -> tuple[str, ...]:
    """Return the keys of later that are used: without them, no training is another."""
    return tuple(key for key in ("init", "given_shares", "given_shift", "tuples_per_level") if getattr(config, key))


def training_fingerprint(recipe: Recipe) -> str:
    """Return 16 hex digits that change with whatever changes the trained weights; weights files carry it."""
    return recipe.fingerprint(training_sections(recipe))


def changes(stored: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """Name in dotted paths what training depends on and a stored plain recipe has otherwise."""
    sections, plain, stored = training_sections(recipe), recipe.identity(), recipe.identity(stored)
    return differences({s: value_at(stored, s) for s in sections}, {s: value_at(plain, s) for s in sections})


def is_raised(stored: Mapping[str, Any], recipe: Recipe) -> bool:
    """Return whether a recipe only has more steps than a stored plain one, from which its run can go on."""
    return changes(stored, recipe) == ["train.steps"] and value_at(stored, "train.steps") < recipe.train.steps


def _listed(keys: list[str], remark: str = "") -> str:
    return f"{', '.join(keys)}{remark}: choose another --out, or begin again with --fresh"


def _read(path: Path) -> Any:
    """Return what a YAML or JSON file holds, None where there is none."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable ({str(error).splitlines()[0]}); begin again with --fresh") from error
