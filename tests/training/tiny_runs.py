"""Trainings that take a second: recipes as text, run in this process or another, and their final weights."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import mmdisco_cli
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run.options import TrainOptions
from mmdisco_cli.training.directory import RunDirectory
from mmdisco_cli.training.loop import Context
from mmdisco_cli.training.run import train

POINTS = """
summary: two scalars
data: {name: gaussians}
backbones:
  x: {name: gaussian-mixture}
  y: {name: gaussian-mixture}
discriminator: {name: mlp, width: 16, depth: 1}
train: {steps: 30, batch_size: 8, checkpoint_every: 10, log_every: 5}
sample: {sampler: ddim, steps: 3}
"""
FRAMES = """
summary: frames of one cell
data: {name: bounce}
request: {seconds: 1.6, frames: 16, fps: 10, height: 16, width: 16}
backbones:
  video: {name: token, codec: frames, latent_channels: 2, patch: [1, 1, 1], width: 8, depth: 1, heads: 2}
train: {target: backbone, codec_steps: 4, steps: 30, batch_size: 4, bank: 6, checkpoint_every: 10, log_every: 5}
"""
STAGE = {"points": "discriminator", "worded": "discriminator", "frames": "denoiser"}


def load(folder: Path, name: str = "points", **settings: Any) -> Recipe:
    """Return a tiny recipe, written into `folder`, with values of its train section changed."""
    path = folder / f"{name}.yaml"
    path.write_text({"points": POINTS, "frames": FRAMES}[name])
    return recipes.load(str(path), [f"train.{key}={value}" for key, value in settings.items()])


def alone(recipe: Recipe, out: Path) -> Context:
    """Return the context of a training in this process, without any other and without a progress display."""
    return Context(RunDirectory(out, recipe), torch.device("cpu"))


def run(recipe: Recipe, out: Path, **options: bool) -> Mapping[str, Tensor]:
    """Train in this process; return the final weights."""
    train(recipe, TrainOptions(out=out, **options))
    return weights(out, recipe.name)


def weights(out: Path, name: str = "points") -> Mapping[str, Tensor]:
    """Return the averaged weights of the last stage's checkpoint: what is exported, before it is rounded."""
    content = torch.load(out / STAGE[name] / "state.pt", weights_only=True)
    average: Mapping[str, Tensor] = content["average"]
    return average


def _threads() -> dict[str, str]:
    """Return variables for as many threads as here: with another number sums are taken in another order."""
    return dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(torch.get_num_threads()))


def start(*command: str, cwd: Path, **environment: str) -> "subprocess.Popen[str]":
    """Begin `python -m ...` with the package that is under test."""
    source = str(Path(mmdisco_cli.__file__).parent.parent)
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": source, **_threads(), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
