"""A discriminator of our own is trained beside the model, on what it makes as fakes, and guides it."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_networks import save_unet

from mmdisco_cli.assembly import assemble
from mmdisco_cli.errors import UsageError
from mmdisco_cli.recipes.recipe import load
from mmdisco_cli.training.data import require_fakes_fit

RECIPE = """
data: {name: bounce}
request: {height: 16, width: 16}
backbones:
  film: {name: mmdiffusion, weights: unet.safetensors}
discriminator: {name: energy, width: 16, depth: 1, heads: 2, steps: 4}
train: {steps: 2, batch_size: 4, warmup: 1, fakes: generated, bank: 4}
sample: {sampler: dpmpp_3s, steps: 2, batch_size: 4, weights: runs/small/train/discriminator.safetensors}
"""


@pytest.mark.slow
def test_it_is_trained_and_then_guides(cli: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    save_unet(tmp_path / "unet.safetensors")
    (tmp_path / "small.yaml").write_text(RECIPE)
    done = cli("train", "--recipe", "small.yaml", "--json")
    assert done.returncode == 0, done.stderr
    logged = [json.loads(line) for line in (tmp_path / "runs/small/train/metrics.jsonl").read_text().splitlines()]
    assert any("disc" in row for row in logged)
    (bank,) = (tmp_path / "runs/small/train/bank").glob("generated-*/*.safetensors")
    assert {m: tuple(x.shape) for m, x in load_file(bank).items()} == {
        "audio": (4, 1, 25600),
        "video": (4, 3, 16, 16, 16),
    }
    made = cli("sample", "--recipe", "small.yaml", "--n", "1", "--json")
    assert made.returncode == 0, made.stderr
    row = json.loads(made.stdout)
    assert isinstance(row["logit"], float)


def test_what_it_makes_together_is_not_parted_for_fakes(
    installed: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_unet(tmp_path / "unet.safetensors")
    (tmp_path / "small.yaml").write_text(RECIPE)
    recipe = load("small.yaml", ["train.fakes=shuffled"])
    models = assemble(recipe, torch.device("cpu"), with_discriminator=False)
    with pytest.raises(UsageError, match="would part audio and video, which backbone film makes together"):
        require_fakes_fit(recipe, models, 4)
