"""Pairs of scalars whose correlation is what their caption says, and base models that know the marginals alone.

Base models of unit Gaussians are exact under any text, so that all there is to learn of a pair is in its caption.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Condition, ModalityInfo, ModalityPlan, Payload, Request, Unread
from mmdisco_cli.diffusion.schedules import Levels, make_schedule
from mmdisco_cli.hookspecs import BackboneSpec, DatasetSpec
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.registry.plugins import Plugin, Registry, load_registry

RHO = 0.8
WORDS = {"same": [1.0, 0.0], "opposite": [0.0, 1.0], "": [0.0, 0.0]}
SCHEDULE = make_schedule("cosine")
RECIPE = """
data: {name: worded-points}
backbones:
  x: {name: worded}
  y: {name: worded}
discriminator: {name: mlp, width: 32, depth: 2}
train: {steps: 400, batch_size: 64, bank: 4096, learning_rate: 0.01, warmup: 10, ema: 0.9, given_fraction: 0,
  checkpoint_every: 10, log_every: 5}
sample: {sampler: ddim, steps: 8, batch_size: 512}
"""


@dataclass(frozen=True)
class PointsOptions:
    """How the clips are described."""

    labelled: bool = False
    unique: bool = False
    silent: bool = False


@dataclass(frozen=True)
class BaseOptions:
    """Whether the discriminator is given the prompts."""

    pooled: bool = True


@dataclass(frozen=True)
class Points:
    """Pairs of unit Gaussians of correlation 0.8 or -0.8, in turn."""

    options: PointsOptions
    part: str = "train"
    length: int | None = 5000
    report: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        return f"worded-points:{self.part}"

    def split(self, part: str) -> "Points":
        return replace(self, part=part)

    def media(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, Tensor]:
        rows = torch.as_tensor(indices)
        z = torch.randn(2, 5000, generator=torch.Generator().manual_seed(len(self.part)))[:, rows, None]
        rho = RHO * (1 - 2 * (rows % 2))[:, None]
        both = {"x": z[0], "y": rho * z[0] + (1 - rho**2).sqrt() * z[1]}
        return {m: both[m] for m in modalities}

    def captions(self, indices: Sequence[int], modalities: Sequence[str]) -> dict[str, list[str]]:
        if self.options.silent:
            return {m: [""] * len(indices) for m in modalities}
        names = [f" {i}" if self.options.unique else "" for i in indices]
        return {
            m: [("opposite" if i % 2 else "same") + n for i, n in zip(indices, names, strict=True)] for m in modalities
        }

    def labels(self, indices: Sequence[int]) -> list[str]:
        return [f"kind {i % 2}" if self.options.labelled else "" for i in indices]


class Worded:
    """The exact denoiser of a unit Gaussian; `seen` are the conditions that it was evaluated under."""

    takes_prompts = True
    fingerprint = "worded"
    seen: list[Tensor] = []  # noqa: RUF012 - shared by all, for the tests

    def __init__(self, modality: str, options: BaseOptions) -> None:
        self.modality, self.options = modality, options

    @property
    def info(self) -> ModalityInfo:
        return ModalityInfo(self.modality, "epsilon", 1, None, 2 if self.options.pooled else 0, cfg_scale=3.0)

    def plan(self, request: Request) -> ModalityPlan:
        return ModalityPlan((1,), (1,), None, 0.0)

    def grid(self, steps: int, plan: ModalityPlan) -> Levels:
        return SCHEDULE.grid(steps)

    def levels_at(self, u: Tensor, plan: ModalityPlan) -> Levels:
        return SCHEDULE.levels_at(u)

    def encode_prompt(self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: ModalityPlan) -> Condition:
        texts, others = (
            torch.tensor([WORDS[p.split(" ")[0]] for p in part]) for part in (prompts, negatives or [""] * len(prompts))
        )
        pooled = (texts, others) if self.options.pooled else ()
        return Condition(texts, others, *pooled)

    def unread(self, prompts: Sequence[str]) -> list[Unread | None]:
        words = [prompt.split(" ") for prompt in prompts]
        return [Unread(1, " ".join(part[1:])) if len(part) > 1 else None for part in words]

    def predict(self, x: Tensor, t: Tensor, condition: Payload, plan: ModalityPlan) -> Tensor:
        if isinstance(condition, Tensor):
            assert condition.shape == (len(x), 2)
            self.seen.append(condition)
        return SCHEDULE.levels_at(t.double()).sigma.float()[:, None] * x

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        return media

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        return latent


def registry() -> Registry:
    """Return everything there is, and the toys."""
    base = BackboneSpec(
        "worded", "exact", BaseOptions, lambda: lambda label, options, request: Worded(label, options), 1
    )
    points = DatasetSpec("worded-points", "pairs", PointsOptions, lambda: lambda options, request: Points(options), 1)
    toys = Plugin("toys", "0", "loaded", (("backbone", base), ("dataset", points)))
    return Registry((*load_registry().plugins, toys))


def load(folder: Path, *settings: str, **train: Any) -> Recipe:
    """Return the recipe of the toys with settings changed, those of `train` by name."""
    path = folder / "worded.yaml"
    path.write_text(RECIPE)
    changed = [f"train.{key}={value}" for key, value in train.items()]
    return recipes.load(str(path), [*settings, *changed], registry=registry())
