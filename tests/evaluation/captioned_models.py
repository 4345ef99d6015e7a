"""Base models that make what their prompt says, the same for every noise, and captioned clips to measure them by."""

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from test_runs import write_clip
from torch import Tensor

from mmdisco_cli.assembly import assemble, build_discriminator
from mmdisco_cli.diffusion.backbone import Condition, ModalityInfo, ModalityPlan, Payload, Request
from mmdisco_cli.diffusion.schedules import Levels, make_schedule
from mmdisco_cli.hookspecs import BackboneSpec, NoOptions
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.recipes.schema import Recipe, to_plain
from mmdisco_cli.registry.plugins import Plugin, Registry, load_registry
from mmdisco_cli.weights_file import save_weights

SCHEDULE = make_schedule("cosine")
FRAMES, FPS, SIZE, RATE = 16, 10, 16, 16000
RECIPE = """
data: {{name: clips, path: {clips}, windows: 1, check: 0}}
request: {{seconds: 1.6, frames: 16, fps: 10, height: 16, width: 16}}
backbones:
  audio: {{name: {model}}}
  video: {{name: {model}}}
discriminator: {{name: mlp, width: 8, depth: 1}}
sample: {{sampler: ddim, steps: 2, batch_size: 4, weights: {weights}}}
eval: {{protocol: clips, n: {n}}}
"""


def number(text: str) -> float:
    """Return what a text is to the models: a number in (-0.9, 0.9), 0 for no text."""
    return (zlib.crc32(text.encode()) % 1000 / 1000 - 0.5) * 1.8 if text else 0.0


class Obedient:
    """A model whose every sample is its prompt's number: the grey of all frames, or the loudness of a tone."""

    takes_prompts = True
    fingerprint = "obedient"

    def __init__(self, modality: str) -> None:
        self.modality = modality

    @property
    def info(self) -> ModalityInfo:
        return ModalityInfo(self.modality, "epsilon", 1, RATE if self.modality == "audio" else FPS, 1)

    def plan(self, request: Request) -> ModalityPlan:
        if self.modality == "audio":
            return ModalityPlan((1,), (1, FRAMES * RATE // FPS), RATE, FRAMES / FPS)
        return ModalityPlan((1,), (3, FRAMES, SIZE, SIZE), FPS, FRAMES / FPS)

    def grid(self, steps: int, plan: ModalityPlan) -> Levels:
        return SCHEDULE.grid(steps)

    def levels_at(self, u: Tensor, plan: ModalityPlan) -> Levels:
        return SCHEDULE.levels_at(u)

    def encode_prompt(self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: ModalityPlan) -> Condition:
        texts = torch.tensor([[number(prompt)] for prompt in prompts])
        return Condition(texts, torch.zeros_like(texts), texts, torch.zeros_like(texts))

    def predict(self, x: Tensor, t: Tensor, condition: Payload, plan: ModalityPlan) -> Tensor:
        wanted = condition if isinstance(condition, Tensor) else torch.zeros_like(x)
        levels = SCHEDULE.levels_at(t.double())
        epsilon: Tensor = (x - levels.alpha[:, None] * wanted) / levels.sigma[:, None]
        return epsilon.float()

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        return media.flatten(1).mean(1, keepdim=True)

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        shape = (len(latent), *plan.media_shape)
        flat = latent.reshape(-1, *[1] * len(plan.media_shape)).expand(shape)
        if self.modality == "video":
            return flat.clone()
        return flat * (torch.arange(plan.media_shape[1]) * 0.2).sin()


class Deaf(Obedient):
    """The same without prompts."""

    takes_prompts = False
    fingerprint = "deaf"

    @property
    def info(self) -> ModalityInfo:
        return ModalityInfo(self.modality, "epsilon", 1, RATE if self.modality == "audio" else FPS)

    def encode_prompt(self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: ModalityPlan) -> Condition:
        return Condition()


def registry() -> Registry:
    """Return everything there is, and these models."""
    specs = [
        BackboneSpec(kind.fingerprint, "exact", NoOptions, lambda kind=kind: lambda label, *_: kind(label), 1)
        for kind in (Obedient, Deaf)
    ]
    own = Plugin("captioned", "0", "loaded", tuple(("backbone", spec) for spec in specs))
    return Registry((*load_registry().plugins, own))


def write_clips(folder: Path, texts: Sequence[str | Mapping[str, str]]) -> Path:
    """Write a held-out clip for each text, and two clips to train on; return their table."""
    rows = [{"video": "train.mp4", "caption": "a clip of training", "split": "train"}]
    for place, text in enumerate(texts):
        own = {"caption": text} if isinstance(text, str) else {f"caption_{m}": one for m, one in text.items()}
        rows.append({"video": f"{place}.mp4", "split": "test", **own})
    for seed, row in enumerate(rows):
        write_clip(folder / row["video"], seed)
    table = folder / "clips.json"
    table.write_text(json.dumps(rows))
    return table


def load(folder: Path, clips: Path, model: str = "obedient", n: int = 8) -> Recipe:
    """Return a recipe named `captioned` of these models, guided by a discriminator that changes nothing."""
    path, weights = folder / "captioned.yaml", folder / f"{model}.safetensors"
    path.write_text(RECIPE.format(clips=clips, model=model, weights=weights, n=n))
    recipe = recipes.load(str(path), registry=registry())
    if not weights.exists():
        _save_discriminator(recipe, weights)
    return recipe


def _save_discriminator(recipe: Recipe, path: Path) -> None:
    alone = assemble(recipe, torch.device("cpu"), with_discriminator=False)
    assert recipe.discriminator is not None
    torch.manual_seed(0)
    module = build_discriminator(recipe.discriminator, alone.shapes, alone.pooled)
    about = {
        "kind": "discriminator",
        "name": "mlp",
        "options": to_plain(recipe.discriminator.options),
        "shapes": {m: list(shape) for m, shape in alone.shapes.items()},
        "coupling": str(alone.coupling),
        "backbones": alone.fingerprints,
        "captions": True,
        "text_dropout": 0.1,
        "pooled": alone.pooled,
    }
    save_weights(path, module.state_dict(), about)
