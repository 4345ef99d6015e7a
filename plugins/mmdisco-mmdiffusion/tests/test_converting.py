"""MM-Diffusion's checkpoints are recognised, kept exactly and named where they are missing."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_networks import drawn_weights
from torch import Tensor, nn

from mmdisco_cli import app
from mmdisco_cli.registry.installing import entries_of
from mmdisco_cli.weights_file import any_about
from mmdisco_mmdiffusion.converting import candidates
from mmdisco_mmdiffusion.enlarger import Enlarger, EnlargerConfig
from mmdisco_mmdiffusion.plugin import mmdisco_backbones, mmdisco_converters
from mmdisco_mmdiffusion.published import ENLARGER, FOLDER, UNET
from mmdisco_mmdiffusion.unet import CoupledUNet, UNetConfig

SMALL = {
    UNET: UNetConfig(channels=32, multipliers=(1, 2), res_blocks=1, windows=(1,)),
    ENLARGER: EnlargerConfig(channels=32, multipliers=(1, 2), res_blocks=1, attention=(1,)),
}
SHARED = {"channels": 32, "multipliers": [1, 2], "res_blocks": 1, "attention": [1], "heads": 4}
OPTIONS = {
    UNET: SHARED | {"head_channels": 64, "dilations": 10, "windows": [1], "video_channels": 3, "audio_channels": 1},
    ENLARGER: SHARED | {"image_channels": 3},
}
TITLES = {UNET: "MM-Diffusion's coupled U-Net", ENLARGER: "MM-Diffusion's super-resolution network"}


@pytest.fixture(autouse=True)
def folder(installed: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def network(config: UNetConfig | EnlargerConfig) -> nn.Module:
    return CoupledUNet(config) if isinstance(config, UNetConfig) else Enlarger(config)


def shapes_of(config: UNetConfig | EnlargerConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in network(config).state_dict().items()}


def digest(shapes: Mapping[str, Sequence[int]]) -> tuple[int, str]:
    lines = sorted(f"{name} {list(shape)}" for name, shape in shapes.items())
    return len(lines), hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def test_the_tensors_are_those_of_the_released_networks() -> None:
    assert digest(shapes_of(UNetConfig())) == (1046, "c7ee66095161e431")
    assert digest(shapes_of(EnlargerConfig())) == (566, "4f624690ae1b3c77")


def test_what_it_provides_is_what_mmdisco_advises_to_install_it_for() -> None:
    described = {"backbone": [s.name for s in mmdisco_backbones()], "converter": [s.name for s in mmdisco_converters()]}
    assert entries_of("mmdisco-mmdiffusion") == described


@pytest.mark.parametrize(
    "config",
    [
        *SMALL.values(),
        UNetConfig(channels=64, multipliers=(1, 1, 2, 2, 3), windows=(1, 4, 8, 8), res_blocks=3),
        UNetConfig(channels=64, multipliers=(1, 2), windows=(1,), video_channels=4, audio_channels=2),
        EnlargerConfig(channels=32, multipliers=(1, 2, 4), res_blocks=1, attention=()),
        EnlargerConfig(channels=64, multipliers=(1, 1, 2), res_blocks=3, attention=(0, 2), image_channels=4),
    ],
)
def test_other_sizes_are_found_from_the_tensors(config: UNetConfig | EnlargerConfig) -> None:
    shapes = shapes_of(config)
    formats = (UNET, ENLARGER) if isinstance(config, UNetConfig) else (ENLARGER, UNET)
    released, own = candidates(formats[0], shapes, "x.pt")
    assert own.misfits(shapes) == []
    assert released.misfits(shapes)
    assert candidates(formats[1], shapes, "x.pt") == []


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s | {"output_blocks.99999999999.0.emb_layers.1.bias": (3,)},
        lambda s: s | {"output_blocks.x.0": (3,)},
        lambda s: s | {"input_blocks.0.0.weight": (2**45, 2**45, 3, 3)},
        lambda s: s | {"input_blocks.0.0.weight": ()},
        lambda s: s | {"input_blocks.0.0.weight": (0, 6, 3, 3)},
        lambda s: s | {"input_blocks.1.0.emb_layers.1.bias": (0,)},
        lambda s: dict(list(s.items())[:5]),
    ],
)
def test_damaged_shapes_leave_the_released_size(change: Any) -> None:
    shapes = shapes_of(EnlargerConfig())
    found = candidates(ENLARGER, change(shapes), "x.pt")
    assert found[0].shapes == shapes
    assert all(one.misfits(change(shapes)) for one in found)


@pytest.mark.parametrize("kind", SMALL)
def test_a_checkpoint_is_kept_exactly_and_says_all_that_building_it_takes(kind: str, folder: Path) -> None:
    tensors: dict[str, Tensor] = drawn_weights(network(SMALL[kind]))
    torch.save(tensors, "x.pt")
    for name, options in (("a", []), ("b", ["--format", kind])):
        assert app.run(["convert", "x.pt", f"{name}.safetensors", *options]) == 0
    assert Path("a.safetensors").read_bytes() == Path("b.safetensors").read_bytes()
    stored = load_file("a.safetensors")
    assert stored.keys() == tensors.keys()
    assert all(torch.equal(stored[name], tensor) for name, tensor in tensors.items())
    assert any_about(folder / "a.safetensors") == {
        "kind": "backbone",
        "architecture": kind,
        "options": OPTIONS[kind],
        "modalities": ["audio", "video"] if kind == UNET else ["video"],
        "prediction": "epsilon",
        "schedule": {"name": "vp-linear", "betas": "linear", "start": 1e-4, "end": 0.02, "train_steps": 1000},
        "licence": "MIT, (c) 2022 Multimedia Research",
        "source": {"file": "x.pt", "sha256": hashlib.sha256(Path("x.pt").read_bytes()).hexdigest()},
    }


@pytest.mark.parametrize("kind", SMALL)
@pytest.mark.parametrize("size", ["small", "released"])
def test_missing_surplus_and_misshapen_tensors_are_named(
    kind: str, size: str, capsys: pytest.CaptureFixture[str]
) -> None:
    released: UNetConfig | EnlargerConfig = UNetConfig() if kind == UNET else EnlargerConfig()
    shapes = shapes_of(SMALL[kind] if size == "small" else released)
    names = sorted(shapes)
    gone, bent = names[len(names) // 2], names[len(names) // 3]
    tensors = {name: torch.zeros(1).expand(shape) for name, shape in shapes.items() if name != gone}
    torch.save(tensors | {bent: torch.zeros(7, 7, 7), "extra.weight": torch.zeros(2)}, "x.pt")
    assert app.run(["convert", "x.pt", "y.safetensors"]) == 4
    error = capsys.readouterr().err
    assert error.startswith(f"error: x.pt: looks like {TITLES[kind]}, but 3 tensors do not fit: missing {gone}; ")
    assert f"surplus extra.weight; {bent} is (7, 7, 7), not (" in error
    assert not Path("y.safetensors").exists()


def test_one_given_out_for_the_other_is_reported_as_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(drawn_weights(network(SMALL[UNET])), "x.pt")
    for other in (ENLARGER, "mmdiffusion_landscape"):
        assert app.run(["convert", "x.pt", "y.safetensors", "--format", other]) == 4
        assert f"is not {other}; it looks like {TITLES[UNET]}\n" in capsys.readouterr().err


@pytest.mark.parametrize(("recipe", "file"), [("landscape", "Landscape"), ("aist", "AIST++")])
def test_every_missing_file_comes_with_the_commands_that_get_it(
    recipe: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    large = ["--set", "backbones.film.sr_weights=weights/sr.safetensors"]
    assert app.run(["sample", "--recipe", recipe, *large]) == 4
    summary, *lines = capsys.readouterr().err.splitlines()
    assert summary == f"error: recipe {recipe} lacks 3 things; in this order:"
    assert [re.findall(r"\(about (.*?)\)", line) for line in lines] == [
        ["535 MB, MIT"],
        ["1.24 GB, MIT"],
        ["51 MB, MIT"],
    ]
    drive = f"https://github.com/researchmm/MM-Diffusion#models (https://drive.google.com/drive/folders/{FOLDER})"
    unet, path = f"weights/mmdiffusion-{recipe}.safetensors", "weights/sr.safetensors"
    assert lines[:2] == [
        f"error: backbones.film.weights: no {unet}, MM-Diffusion's coupled U-Net, trained on {file}: download "
        f"{file}.pt (about 535 MB, MIT) from the Google Drive folder under {drive}, then: "
        f"mmdisco convert {file}.pt {unet}; or add --download",
        f"error: backbones.film.sr_weights: no {path}, its super-resolution network, trained on {file}: download "
        f"{file}_SR.pt (about 1.24 GB, MIT) from the Google Drive folder under {drive}, then: "
        f"mmdisco convert {file}_SR.pt {path}; or add --download",
    ]


def test_a_converted_file_alone_is_planned_with(capsys: pytest.CaptureFixture[str]) -> None:
    for source, kind in (("AIST++", UNET), ("AIST++_SR", ENLARGER)):
        torch.save(drawn_weights(network(SMALL[kind])), f"{source}.pt")
        assert app.run(["convert", f"{source}.pt", f"{kind}.safetensors"]) == 0
    capsys.readouterr()
    assert app.run(["sample", "--checkpoint", f"{UNET}.safetensors", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["recipe"], plan["missing"]) == ("aist", [])
    assert app.run(["sample", "--checkpoint", f"{ENLARGER}.safetensors"]) == 4
    assert "give it to a recipe as backbones.film.sr_weights" in capsys.readouterr().err


def test_a_discriminator_is_published_without_its_base_model_but_with_its_hash(tmp_path: Path) -> None:
    from mmdisco_cli.recipes.recipe import load
    from mmdisco_cli.training.release.bases import base_models

    torch.save(drawn_weights(network(SMALL[UNET])), "Landscape.pt")
    assert app.run(["convert", "Landscape.pt", "unet.safetensors"]) == 0
    recipe = load("landscape", [f"backbones.film.weights={Path('unet.safetensors').absolute()}"])
    (base,) = base_models(recipe, {"film": "0123456789abcdef"})
    assert (base.ours, base.hub, base.fingerprint) == (None, (), "0123456789abcdef")
    source = hashlib.sha256(Path("Landscape.pt").read_bytes()).hexdigest()
    converted = hashlib.sha256(Path("unet.safetensors").read_bytes()).hexdigest()
    assert base.files == (
        f"unet.safetensors of SHA-256 {converted}, converted from Landscape.pt of SHA-256 {source}, "
        "licence MIT, (c) 2022 Multimedia Research",
    )
    assert base.install == "in a clone of mmdisco: pip install ./plugins/mmdisco-mmdiffusion"
