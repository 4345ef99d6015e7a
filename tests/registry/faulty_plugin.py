"""A plugin of two scalars that works, and a test can spoil in one place: `# METHOD` stands where its fault goes."""

from pathlib import Path

BODY = """
from dataclasses import dataclass
from mmdisco_cli.hookspecs import BackboneSpec, DatasetSpec, DiscriminatorSpec, hookimpl, lazy

@dataclass(frozen=True)
class Options:
    size: int = 1

# import
@hookimpl
def mmdisco_backbones():
    # hook
    return [BackboneSpec("dot", "", Options, lazy("faulty_model:backbone"), 1)]

@hookimpl
def mmdisco_discriminators():
    return [DiscriminatorSpec("judge", "", Options, lazy("faulty_model:discriminator"), 1)]

@hookimpl
def mmdisco_datasets():
    return [DatasetSpec("pairs", "", Options, lazy("faulty_model:dataset"), 1)]
"""
MODEL = """
import torch
from torch import nn
from mmdisco_cli.diffusion.backbone import Condition, ModalityInfo, ModalityPlan
from mmdisco_cli.diffusion.schedules import cosine
# module

class Dot:
    fingerprint = "dot"

    def __init__(self, label):
        self.info = ModalityInfo(label, "epsilon", 1, None)

    def plan(self, request):
        # plan
        return ModalityPlan((1,), (1,), None, 0.0)

    def grid(self, steps, plan):
        # grid
        return cosine().grid(steps)

    def levels_at(self, u, plan):
        # levels_at
        return cosine().levels_at(u)

    def encode_prompt(self, prompts, negatives, plan):
        # encode_prompt
        return Condition()

    def predict(self, x, t, condition, plan):
        # predict
        return 0.9 * x

    def encode(self, media, plan):
        # encode
        return media

    def decode(self, latent, plan):
        # decode
        return latent

class Judge(nn.Module):
    def __init__(self, shapes):
        super().__init__()
        self.layer = nn.Linear(len(shapes), 8)
        self.last = nn.Linear(8, 1)

    def forward(self, x, log_snr, pooled=None):
        # forward
        logit = self.last(self.layer(torch.cat(list(x.values()), 1)).tanh())[:, 0]
        # logit
        return logit

class Pairs:
    length, fingerprint, report = None, "pairs", ()

    def split(self, part):
        # split
        return self

    def media(self, indices, modalities):
        # media
        draw = torch.Generator().manual_seed(indices[0])
        clips = {m: torch.randn(len(indices), 1, generator=draw) for m in modalities}
        # clips
        return clips

def backbone(label, options, request):
    # build
    return Dot(label)

def discriminator(options, shapes, pooled):
    # discriminator
    return Judge(shapes)

def dataset(options, request):
    # dataset
    return Pairs()
"""
RECIPE = """
data: {name: pairs}
backbones:
  x: {name: dot}
  y: {name: dot}
discriminator: {name: judge}
train: {steps: 3, batch_size: 4, warmup: 0, checkpoint_every: 10}
sample: {sampler: ddim, steps: 2, weights: judge.safetensors}
"""


def spoilt(source: str, place: str, fault: str) -> str:
    """Return a source with a fault where it says `# place`; as it is where it has no such place."""
    lines = source.split("\n")
    return "\n".join(line.replace(f"# {place}", fault) if line.strip() == f"# {place}" else line for line in lines)


def write_model(folder: Path, place: str = "", fault: str = "") -> str:
    """Write the models' module and the recipe into a folder; return the body of the plugin's own module."""
    (folder / "faulty_model.py").write_text(spoilt(MODEL, place, fault))
    (folder / "faulty.yaml").write_text(RECIPE)
    return spoilt(BODY, place, fault)
