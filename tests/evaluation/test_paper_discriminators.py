"""The paper's architectures trained by our own loop, and what training and evaluation say of those that only add."""

import json
from pathlib import Path

import pytest
import torch

from mmdisco_cli import app
from mmdisco_cli.discriminators.interaction import ADDITIVE

RECIPE = """
data: {{name: bounce}}
request: {{seconds: 1.6, frames: 16, fps: 10, height: 64, width: 64}}
backbones:
  audio: {{name: token, weights: bounce-audio}}
  video: {{name: token, weights: bounce-video}}
discriminator: {{name: paper-waveform, channels: 32, blocks: 1, dilations: 3, fusion: {fusion}}}
train: {{steps: 4, batch_size: 4, bank: 8, checkpoint_every: 4, log_every: 2}}
sample: {{weights: trained/discriminator.safetensors}}
eval: {{protocol: bounce, n: 6}}
"""


@pytest.mark.slow
@pytest.mark.parametrize("fusion", ["mean", "transformer"])
def test_training_and_evaluation_warn_of_one_that_only_adds(fusion, in_empty_folder, capsys):
    Path("paper.yaml").write_text(RECIPE.format(fusion=fusion))
    assert app.run(["train", "--recipe", "paper.yaml", "--out", "trained"]) == 0
    said = capsys.readouterr().err
    assert ("warning: interaction" in said) == (fusion == "mean")
    assert app.run(["eval", "--recipe", "paper.yaml", "--metrics", "interaction,accuracy", "--json"]) == 0
    found = capsys.readouterr()
    interaction = json.loads(found.out)["metrics"]["interaction"]["value"]
    assert ("warning: the discriminator does not see the pair" in found.err) == (fusion == "mean")
    assert (abs(interaction) < ADDITIVE) == (fusion == "mean")
    assert app.run(["convert", "trained/discriminator.safetensors", "theirs.pt"]) == 0
    state = torch.load("theirs.pt", weights_only=True)
    assert ("fusion_model.fm.cls_emb" in state) == (fusion == "transformer")
    assert state["last_linear.weight"].shape == (1, 256)
