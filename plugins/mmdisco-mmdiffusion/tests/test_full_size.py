"""The released networks at their own size, from checkpoints in their authors' layout to a clip that is read back.

Weights are drawn from the names of the tensors, so the clip shows nothing; what is tested is that every part fits.
"""

import json
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from small_networks import drawn_weights
from torch import nn

from mmdisco_cli import app
from mmdisco_cli.data.media import read_clip
from mmdisco_cli.paper import build_discriminator
from mmdisco_mmdiffusion.enlarger import Enlarger, EnlargerConfig
from mmdisco_mmdiffusion.unet import CoupledUNet, UNetConfig


def published() -> Mapping[str, tuple[nn.Module, str]]:
    """Return the released networks on no device, by the file of each, with the name that the recipe gives it."""
    with torch.device("meta"):
        return {
            "Landscape.pt": (CoupledUNet(UNetConfig()), "mmdiffusion-landscape"),
            "Landscape_SR.pt": (Enlarger(EnlargerConfig()), "mmdiffusion-landscape-sr"),
            "mmdiffusion_landscape.pt": (build_discriminator("mmdiffusion_landscape"), "mmdisco-landscape"),
        }


@pytest.mark.full_size
def test_a_video_of_the_released_size_is_made_enlarged_and_read_back(
    installed: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for file, (network, name) in published().items():
        torch.save(drawn_weights(network), file)
        run(["convert", file, f"weights/{name}.safetensors"])
        Path(file).unlink()
    capsys.readouterr()
    few = ["sample.steps=3", "backbones.film.sr_weights=weights/mmdiffusion-landscape-sr.safetensors"]
    few += ["backbones.film.sr_steps=1"]
    run(["sample", "--recipe", "landscape", "--n", "1", "--json", *(word for key in few for word in ("--set", key))])
    (row,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    clip = read_clip(tmp_path / row["path"], None, 16, Fraction(10), 256, 256, 16000)
    assert clip.video.shape[-2:] == (256, 256)
    assert clip.audio.shape[-1] == 25600
    assert float(clip.video.std()) > 0.05
    assert float(clip.audio.std()) > 0.01
    assert isinstance(row["logit"], float)


def run(arguments: Sequence[str]) -> None:
    assert app.run(list(arguments)) == 0
