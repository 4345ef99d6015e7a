"""From a checkpoint in its authors' layout to videos: convert, sample, read back; the released networks, but narrow."""

import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from small_networks import drawn_weights
from torch import nn

from mmdisco_cli.conversion.run import convert
from mmdisco_cli.data.media import Clip, read_clip
from mmdisco_cli.paper.configs import RELEASED
from mmdisco_cli.paper.discriminator import PaperDiscriminator
from mmdisco_cli.recipes.recipe import load
from mmdisco_cli.run.options import ConvertOptions
from mmdisco_cli.weights_file import read_about
from mmdisco_mmdiffusion.enlarger import Enlarger, EnlargerConfig
from mmdisco_mmdiffusion.loading import load_enlarger, load_unet
from mmdisco_mmdiffusion.unet import CoupledUNet, UNetConfig

NARROW = UNetConfig(channels=32, multipliers=(1, 2, 2), res_blocks=1, windows=(1, 4))
SHALLOW = EnlargerConfig(channels=32, multipliers=(1, 1, 1, 1), res_blocks=1, attention=(3,))
Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def converted(tmp_path: Path) -> Path:
    """Convert narrow networks to where the recipe `landscape` looks for its weights."""
    released = RELEASED["mmdiffusion_landscape"]
    options = replace(released.options, channels=32)
    networks: dict[str, tuple[nn.Module, str]] = {
        "Landscape.pt": (CoupledUNet(NARROW), "mmdiffusion-landscape"),
        "Landscape_SR.pt": (Enlarger(SHALLOW), "mmdiffusion-landscape-sr"),
        "mmdiffusion_landscape.pt": (PaperDiscriminator(options, released.shapes, {}), "mmdisco-landscape"),
    }
    for file, (network, name) in networks.items():
        torch.save(drawn_weights(network), tmp_path / file)
        convert(ConvertOptions(tmp_path / file, tmp_path / "weights" / f"{name}.safetensors"))
    return tmp_path


def test_a_converted_file_says_all_sizes_of_its_network(converted: Path) -> None:
    """Heads, windows and dilations too, which no shape of a tensor determines."""
    weights = converted / "weights"
    unet, enlarger = weights / "mmdiffusion-landscape.safetensors", weights / "mmdiffusion-landscape-sr.safetensors"
    for path, found in ((unet, load_unet(str(unet))[0].config), (enlarger, load_enlarger(str(enlarger))[0].config)):
        said = read_about(path, "backbone")["options"]
        sizes = {name: list(size) if isinstance(size, tuple) else size for name, size in asdict(found).items()}
        assert {name: said[name] for name in sizes} == sizes
        assert found == (NARROW if path == unet else SHALLOW)


def videos(folder: Path, done: subprocess.CompletedProcess[str], pixels: int = 64) -> list[Clip]:
    """Return what was written, read back in the very shape that was promised."""
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    return [read_clip(folder / row["path"], None, 16, Fraction(10), pixels, pixels, 16000) for row in rows]


def gap(found: Clip, wanted: Clip) -> float:
    return float((found.video - wanted.video).norm() / wanted.video.norm())


@pytest.mark.slow
def test_videos_are_sampled_and_read_back(converted: Path, cli: Cli) -> None:
    sample = ("sample", "--recipe", "landscape", "--json", "--set", "sample.steps=3", "--n")
    made = videos(converted, cli(*sample, "2", "--batch-size", "2"))
    assert len(made) == 2
    for clip in made:
        assert float(clip.video.std()) > 0.05
        assert float(clip.audio.std()) > 0.01
    (again,) = videos(converted, cli(*sample, "2", "--shard", "1/2", "--out", "alone"))
    assert gap(again, made[1]) < 0.01 < gap(made[0], made[1])


@pytest.mark.slow
def test_frames_are_enlarged_and_given_ones_kept(converted: Path, cli: Cli) -> None:
    sample = ("sample", "--recipe", "landscape", "--json", "--n", "1", "--independent", "--set", "sample.steps=3")
    large = ("--set", "backbones.film.sr_weights=weights/mmdiffusion-landscape-sr.safetensors")
    few = ("--set", "backbones.film.sr_steps=1", "--set", "sample.weights=null")
    (clip,) = videos(converted, cli(*sample, *large, *few), 256)
    assert float(clip.video.std()) > 0.05
    smaller = cli(*sample, "--set", "sample.weights=null")
    assert smaller.returncode == 2
    assert "holds samples made with variants.film" in smaller.stderr
    source = "video=runs/landscape/independent/00000-seed0.mp4"
    (other,) = videos(converted, cli(*sample, *large, *few, "--given", source), 256)
    assert gap(other, clip) < 0.1
    assert float((other.audio - clip.audio).norm() / clip.audio.norm()) > 0.1


def test_the_readmes_python_runs(converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    block = readme.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(converted)
    found: dict[str, torch.Tensor] = {}
    exec(block, found)
    assert found["epsilon_video"].shape == (1, 3, 16, 64, 64)
    assert found["epsilon_audio"].shape == (1, 1, 25600)


@pytest.mark.parametrize("name", ["landscape", "aist"])
def test_the_packaged_recipes_load(name: str, installed: Path | None, tmp_path: Path) -> None:
    recipe = load(name)
    assert recipe.name == name
    assert recipe.modalities == ("audio", "video")
    assert (recipe.sample.sampler, recipe.sample.steps, recipe.sample.threshold) == ("dpmpp_3s", 20, 0.995)
    assert name in recipe.backbones["film"].options.weights
    resolved = tmp_path / f"{name}.yaml"
    resolved.write_text(recipe.to_yaml())
    assert load(str(resolved)) == recipe


def test_a_recipe_without_weights_for_the_model_is_refused(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bare.yaml").write_text("backbones:\n  film: {name: mmdiffusion}\n")
    found = cli("sample", "--recipe", "bare.yaml", "--dry-run")
    assert found.returncode == 2
    assert "bare.yaml:2:9: backbones.film.weights: must name" in found.stderr


def test_without_the_plugin_one_line_says_what_to_install(cli: Cli) -> None:
    found = cli("sample", "--recipe", "landscape", "--dry-run", MMDISCO_PLUGINS="")
    assert found.returncode == 3
    assert len(found.stderr.strip().splitlines()) == 1
    assert "mmdisco-mmdiffusion" in found.stderr
    listed = cli("recipes", "ls", MMDISCO_PLUGINS="")
    assert listed.returncode == 0
    assert {"landscape", "aist"} <= {line.split()[0] for line in listed.stdout.splitlines()}
