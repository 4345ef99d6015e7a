"""Models small enough to sample in a moment: random weights in real weights files, and the recipe that joins them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmdisco_cli.assembly import assemble, build_discriminator
from mmdisco_cli.backbones.options import TokenOptions
from mmdisco_cli.backbones.token import TokenBackbone
from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.recipes.schema import Recipe, to_plain
from mmdisco_cli.weights_file import save_weights

REQUEST = Request(seconds=0.4, frames=4, fps=10.0, height=32, width=32)
SOUND = TokenOptions(codec="sound", latent_channels=3, patch=(4,), width=16, depth=1, heads=2)
VIDEO = TokenOptions(codec="frames", latent_channels=2, patch=(1, 2, 2), width=16, depth=1, heads=2)
CPU = torch.device("cpu")

RECIPE = """
request: {{seconds: 0.4, frames: 4, fps: 10, height: 32, width: 32}}
backbones:
  audio: {{name: token, weights: {folder}/audio.safetensors}}
  video: {{name: token, weights: {folder}/video.safetensors}}
discriminator: {{name: energy, width: 16, depth: 1, heads: 2, steps: 4}}
sample:
  sampler: ddim
  steps: 6
  batch_size: 4
  guidance: {{audio: 2.0, video: 3.0}}
  weights: {folder}/joint.safetensors
"""


def make_tiny(folder: Path) -> Path:
    """Write three weights files and tiny.yaml into a folder; return the recipe's path."""
    torch.manual_seed(0)
    for modality, options in (("audio", SOUND), ("video", VIDEO)):
        save_base(folder / f"{modality}.safetensors", modality, options)
    path = folder / "tiny.yaml"
    path.write_text(RECIPE.format(folder=folder))
    save_joint(folder / "joint.safetensors", recipes.load(str(path)))
    return path


def save_base(path: Path, modality: str, options: TokenOptions, request: Request = REQUEST) -> None:
    """Write a base model of random weights."""
    backbone = TokenBackbone(modality, options, request)
    about = {"kind": "backbone", "modality": modality, "options": to_plain(options), "request": to_plain(request)}
    save_weights(path, _shaken(backbone.module), about)


def save_joint(path: Path, recipe: Recipe, **changed: Any) -> None:
    """Write a discriminator that fits the recipe, but for what is changed of its description."""
    alone = assemble(recipe, CPU, with_discriminator=False)
    assert recipe.discriminator is not None
    torch.manual_seed(1)
    module = build_discriminator(recipe.discriminator, alone.shapes, alone.pooled)
    options = to_plain(recipe.discriminator)
    about: Mapping[str, Any] = {
        "kind": "discriminator",
        "name": options.pop("name"),
        "options": options,
        "shapes": alone.shapes,
        "coupling": recipe.coupling,
        "backbones": alone.fingerprints,
        "recipe": recipe.to_dict(),
        "fingerprint": recipe.fingerprint(),
        "steps": 0,
        "results": {},
    }
    save_weights(path, _shaken(module), {**about, **changed})


def _shaken(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights with noise added: layers that start at zero would make every answer the same."""
    tensors = module.state_dict()
    return {name: x if "std" in name else x + 0.05 * torch.randn(x.shape) for name, x in tensors.items()}
