"""Untrained models of the length of bounce, small enough to evaluate in a moment, and the recipe that joins them."""

from pathlib import Path

import torch

from mmdisco_cli.assembly import assemble, build_discriminator
from mmdisco_cli.backbones.options import TokenOptions
from mmdisco_cli.backbones.token import TokenBackbone
from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.recipes.schema import to_plain
from mmdisco_cli.weights_file import save_weights

REQUEST = Request(seconds=1.6, frames=16, fps=10.0, height=32, width=32)
MODELS = {
    "audio": TokenOptions(codec="sound", latent_channels=4, patch=(10,), width=16, depth=1, heads=2),
    "video": TokenOptions(codec="frames", latent_channels=2, patch=(2, 2, 2), width=16, depth=1, heads=2),
}
RECIPE = """
data: {data}
request: {{seconds: 1.6, frames: 16, fps: 10, height: 32, width: 32}}
backbones:
  audio: {{name: token, weights: {folder}/audio.safetensors}}
  video: {{name: token, weights: {folder}/video.safetensors}}
discriminator: {{name: {discriminator}, width: 16, depth: 1, heads: 2, steps: 4{option}}}
sample: {{steps: 3, batch_size: 4, weights: {folder}/{weights}.safetensors, scale: 2}}
eval: {{protocol: {protocol}, n: 6}}
"""


def make_models(folder):
    """Write weights of two base models and of four discriminators that fit them."""
    torch.manual_seed(0)
    for modality, options in MODELS.items():
        about = {"kind": "backbone", "modality": modality, "options": to_plain(options), "request": to_plain(REQUEST)}
        module = TokenBackbone(modality, options, REQUEST).module
        save_weights(folder / f"{modality}.safetensors", shaken(module.state_dict()), about)
    for name in ("energy", "energy-x0", "aligned", "additive"):
        _save_joint(folder, name)


def _save_joint(folder, name):
    loaded = recipes.load(str(write_recipe(folder, folder, discriminator=name)))
    alone = assemble(loaded, torch.device("cpu"), with_discriminator=False)
    module = build_discriminator(loaded.discriminator, alone.shapes, alone.pooled)
    options = to_plain(loaded.discriminator)
    about = {
        "kind": "discriminator",
        "name": options.pop("name"),
        "options": options,
        "shapes": alone.shapes,
        "coupling": str(loaded.coupling),
        "backbones": alone.fingerprints,
    }
    save_weights(folder / f"{name}.safetensors", shaken(module.state_dict()), about)


def write_recipe(models, folder, protocol="bounce", data="{name: bounce}", discriminator="energy"):
    """Write small.yaml into a folder, for models made in another."""
    path = Path(folder) / "small.yaml"
    name, _, variant = discriminator.partition("-")
    option = ", reads_x0: true" if variant else ""
    path.write_text(
        RECIPE.format(
            folder=models, protocol=protocol, data=data, discriminator=name, option=option, weights=discriminator
        )
    )
    return path


def shaken(tensors):
    """Return weights with noise added: layers that start at zero would make every answer the same."""
    return {name: x if "std" in name else x + 0.2 * torch.randn(x.shape) for name, x in tensors.items()}
