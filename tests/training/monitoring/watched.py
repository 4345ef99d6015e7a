"""Trainings of a few seconds that go well, or fail in one of three ways."""

from pathlib import Path

from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.recipes.schema import Recipe

WATCHED = """
summary: two scalars
data: {name: gaussians}
backbones:
  x: {name: gaussian-mixture}
  y: {name: gaussian-mixture}
discriminator: {name: mlp, width: 32, depth: 2}
train: {steps: 120, batch_size: 32, checkpoint_every: 50, log_every: 5, warmup: 5, validate_every: 0, given_fraction: 0,
  learning_rate: 0.01}
sample: {sampler: ddim, steps: 3}
"""
UNSTABLE = ("train.learning_rate=0.5", "train.warmup=0", "train.steps=20")
INDEPENDENT = ("data.modalities=3",)
"""Of three scalars in the latin mixture any two are independent."""
FEW_CLIPS = ("train.bank=6", "train.validate_every=15")


def watched(folder: Path, *settings: str) -> Recipe:
    """Return the recipe, written into `folder`, with some of its keys changed."""
    path = folder / "watched.yaml"
    path.write_text(WATCHED)
    return recipes.load(str(path), settings)
