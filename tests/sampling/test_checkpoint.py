"""One weights file is enough to sample with, and missing weights are named with where to get them."""

import json
import re
from types import SimpleNamespace

import pytest
import torch
from mmdiffusion_stand_in import PLUGIN
from released_weights import filled, small, weights

from mmdisco_cli import app
from mmdisco_cli.conversion.discriminators import discriminator_shapes
from mmdisco_cli.data.probing import probe
from mmdisco_cli.paper.configs import RELEASED
from mmdisco_cli.recipes.recipe import packaged
from mmdisco_cli.weights_file import save_weights


@pytest.fixture
def plugin(make_plugin, tmp_path, monkeypatch):
    make_plugin("mmdisco-mmdiffusion", PLUGIN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def converted(folder, kind, name):
    """Convert a small checkpoint of a kind to a file of this name."""
    folder.mkdir(exist_ok=True)
    tensors = {kind: torch.ones(1)}
    if kind in RELEASED:
        tensors = weights(discriminator_shapes(RELEASED[kind], channels=32))
    source, destination = folder / f"{name}.pt", folder / f"{name}.safetensors"
    torch.save(tensors, source)
    assert app.run(["convert", str(source), str(destination)]) == 0
    return destination


STEPS = ["--set", "sample.steps=3", "--n", "2"]


def test_the_discriminators_file_alone_is_enough(plugin, capsys):
    file = converted(plugin / "weights", "mmdiffusion_landscape", "my: own")
    converted(plugin / "weights", "mmdiffusion-unet", "mmdiffusion-landscape")
    capsys.readouterr()
    assert app.run(["sample", "--checkpoint", str(file), *STEPS, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["index"] for row in rows] == [0, 1]
    for row in rows:
        found = probe(row["path"])
        assert (found.width, found.height) == (16, 16)
        assert found.audio is not None
        assert row["guided"] is True
        assert isinstance(row["logit"], float)
    # The recipe by name and the same weights are the same run.
    same = ["sample", "--recipe", "landscape", "--set", f"sample.weights={json.dumps(str(file))}", *STEPS]
    assert app.run(same) == 0
    assert capsys.readouterr().out.splitlines() == [row["path"] for row in rows]


def test_the_released_form_and_ours_make_different_samples(plugin, capsys):
    file = converted(plugin / "weights", "mmdiffusion_landscape", "d")
    converted(plugin / "weights", "mmdiffusion-unet", "mmdiffusion-landscape")
    common = [
        "sample",
        "--checkpoint",
        str(file),
        "--set",
        "sample.steps=3",
        "--n",
        "1",
        "--set",
        "sample.keep_latents=true",
    ]
    for out, form in (("a", "released"), ("b", "logit")):
        assert app.run([*common, "--out", out, "--set", f"sample.guidance_form={form}"]) == 0
    assert app.run([*common, "--out", "a", "--set", "sample.guidance_form=logit"]) == 2
    assert "sample.guidance_form" in capsys.readouterr().err


def test_base_weights_alone_are_sampled_unguided(plugin, capsys):
    file = converted(plugin / "weights", "mmdiffusion-unet", "Landscape")
    capsys.readouterr()
    assert app.run(["sample", "--checkpoint", str(file), *STEPS, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["guided"], row["logit"]) for row in rows] == [(False, None)] * 2


@pytest.mark.parametrize(
    ("source", "name", "recipe"),
    [
        ("Landscape", "x", "landscape"),
        ("AIST++", "x", "aist"),
        ("x", "my-AIST", "aist"),
        ("x", "y", "landscape"),
    ],
)
def test_base_weights_are_sampled_by_the_recipe_that_they_are_named_after(source, name, recipe, plugin, capsys):
    file = converted(plugin, "mmdiffusion-unet", source).rename(f"{name}.safetensors")
    capsys.readouterr()
    assert app.run(["sample", "--checkpoint", str(file), "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"] == recipe


def test_a_folder_without_weights_is_no_checkpoint(plugin, capsys):
    assert app.run(["sample", "--checkpoint", str(plugin)]) == 4
    lacks = "has no discriminator.safetensors, which `mmdisco train` leaves in its folder release"
    assert capsys.readouterr().err == f"error: {plugin}: {lacks}\n"


def test_every_missing_file_has_a_line_of_its_own(plugin, capsys):
    assert app.run(["sample", "--recipe", "aist", "--set", "backbones.film.sr_weights=weights/sr.safetensors"]) == 4
    summary, *lines = capsys.readouterr().err.splitlines()
    assert summary == "error: recipe aist lacks 3 things; in this order:"
    assert [re.search(r"\(about (.*?)\)", line)[1] for line in lines] == ["535 MB", "1.24 GB", "51 MB, MIT"]
    drive, hub = "a drive", "https://huggingface.co/AkioHayakawa/MMDisCo"
    for line, (key, what, file, where, path) in zip(
        lines,
        [
            ("backbones.film.weights", "another U-Net", "AIST++.pt", drive, "weights/mmdiffusion-aist.safetensors"),
            ("backbones.film.sr_weights", "what enlarges", "AIST++_SR.pt", drive, "weights/sr.safetensors"),
            ("sample.weights", "discriminator", "mmdiffusion_aist++.pt", hub, "weights/mmdisco-aist.safetensors"),
        ],
        strict=True,
    ):
        assert line.startswith(f"error: {key}: no {path}, ")
        assert all(part in line for part in (what, f"download {file} (about ", where, f"mmdisco convert {file} {path}"))
    assert not (plugin / "runs").exists()


def test_training_names_the_missing_base_model_alone(plugin, capsys):
    assert app.run(["train", "--recipe", "landscape", "--set", "data.path=clips"]) == 4
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(": no ")[0] for line in lines] == ["error: backbones.film.weights"]


def _shown(plan):
    from mmdisco_cli.sampling.overview import dry_run_lines

    return "\n".join(dry_run_lines(plan))


def test_what_backbones_report_of_their_own_memory_is_not_reported_again():
    from mmdisco_cli.sampling.memory import memory_mb

    telling = SimpleNamespace(parameters=3_000_000, memory=("unet: 6 MB in bfloat16",))
    bases = [SimpleNamespace(backbone=backbone) for backbone in (telling, SimpleNamespace(parameters=2_000_000))]
    assert memory_mb(SimpleNamespace(bases=bases, discriminator=None), 1) == {"weights": 8, "guidance": 0}


def test_a_dry_run_plans_around_what_is_missing(plugin, capsys):
    assert app.run(["sample", "--recipe", "landscape", "--dry-run", "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["modalities"]["video"]["latent"] == [3, 4, 16, 16]
    assert (plan["sampler"], plan["steps"]) == ("dpmpp_3s", 20)
    assert plan["discriminator"]["parameters"] == 12_682_241
    assert plan["memory_mb"]["weights"] == 12_682_241 * 4 // 10**6
    assert plan["memory_mb"]["guidance"] > 0
    assert plan["operations"]["film"] is None  # the stand-in does not say
    assert plan["operations"]["guidance"] > 0
    assert [line.partition(": ")[0] for line in plan["missing"]] == ["backbones.film.weights", "sample.weights"]
    assert f"memory: about 50 MB of weights, {plan['memory_mb']['guidance']} MB to guide a batch" in _shown(plan)
    plan["backbones"]["film"]["memory"] = ["unet: 6 MB in bfloat16"]
    assert "memory: about 50 MB of further weights, " in _shown(plan)
    plan["memory_mb"] = {"weights": 0, "guidance": 0}
    assert "memory: about" not in _shown(plan)
    assert app.run(["sample", "--recipe", "landscape", "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "operations of a sample and step: film unknown, guidance " in shown
    assert "missing: sample.weights: no weights/mmdisco-landscape.safetensors" in shown
    assert "guidance: audio 1, video 1 as released for" in shown


def test_a_complete_dry_run_misses_nothing(plugin, capsys):
    converted(plugin / "weights", "mmdiffusion-unet", "mmdiffusion-landscape")
    converted(plugin / "weights", "mmdiffusion_landscape", "mmdisco-landscape")
    capsys.readouterr()
    assert app.run(["sample", "--recipe", "landscape", "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["missing"] == []


def test_without_its_plugin_a_file_says_which_is_needed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MMDISCO_PLUGINS", "")
    monkeypatch.chdir(tmp_path)
    file = converted(tmp_path / "weights", "mmdiffusion_landscape", "d")
    assert app.run(["sample", "--checkpoint", str(file)]) == 3
    error = capsys.readouterr().err
    assert "unknown backbone 'mmdiffusion'" in error
    assert "mmdisco-mmdiffusion" in error


def test_without_its_plugin_a_base_models_file_says_which_is_needed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("mmdisco_cli.registry.plugins.entry_points", lambda group: [])
    save_weights(tmp_path / "x.safetensors", {}, {"kind": "backbone", "architecture": "mmdiffusion-unet"})
    assert app.run(["sample", "--checkpoint", str(tmp_path / "x.safetensors")]) == 3
    assert "in a clone of mmdisco: pip install ./plugins/mmdisco-mmdiffusion" in capsys.readouterr().err


def test_a_file_of_an_architecture_that_nobody_converts(tmp_path, capsys):
    save_weights(tmp_path / "x.safetensors", {}, {"kind": "backbone", "architecture": "of mine"})
    assert app.run(["sample", "--checkpoint", str(tmp_path / "x.safetensors")]) == 4
    assert "holds a of mine, which is not sampled with alone: give it to a recipe as the weights" in (
        capsys.readouterr().err
    )


@pytest.mark.parametrize("config", RELEASED)
def test_the_recipe_of_every_released_discriminator_is_here(config):
    assert RELEASED[config].recipe in packaged()


def test_files_that_are_not_sampled_with(plugin, tmp_path, capsys):
    enlarger = converted(tmp_path / "weights", "mmdiffusion-sr", "sr")
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"no weights")
    capsys.readouterr()
    for arguments, code, message in (
        (
            ["--checkpoint", str(enlarger)],
            4,
            "is not sampled with alone: give it to a recipe as backbones.film.sr_weights",
        ),
        (["--checkpoint", str(foreign)], 4, "not a readable safetensors file"),
        (["--checkpoint", "gone.safetensors"], 4, "gone.safetensors: no such file"),
        (["--checkpoint", str(enlarger), "--recipe", "bounce"], 2, "--recipe and --checkpoint: give one of them"),
    ):
        assert app.run(["sample", *arguments]) == code
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_one_trained_here_carries_its_recipe(tmp_path, monkeypatch, capsys):
    from mmdisco_cli.weights_file import PACKAGED

    monkeypatch.chdir(tmp_path)
    file = PACKAGED / "bounce.safetensors"
    assert app.run(["sample", "--checkpoint", str(file), "--dry-run", "--json", "--set", "sample.steps=7"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["recipe"], plan["steps"], plan["discriminator"]["weights"]) == ("bounce", 7, str(file))
    assert set(plan["modalities"]) == {"audio", "video"}


def test_the_released_form_is_for_discriminators_that_know_times(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert app.run(["sample", "--recipe", "bounce", "--n", "1", "--set", "sample.guidance_form=released"]) == 2
    assert "released is for the paper's discriminators, not for energy" in capsys.readouterr().err
    repeated = ["--set", "sample.joint_steps=2", "--set", "sample.sampler=dpmpp_2m"]
    assert app.run(["sample", "--recipe", "bounce", *repeated, "--dry-run"]) == 2
    assert "sample.sampler: dpmpp_2m cannot repeat steps, and sample.joint_steps is" in capsys.readouterr().err


def test_memory_grows_with_what_guidance_has_to_keep():
    from mmdisco_cli.sampling.memory import kept_for_backward

    network = filled(small("mmdiffusion_landscape"))
    shapes = {"audio": (1, 320), "video": (3, 4, 8, 8)}
    once = kept_for_backward(network, shapes, {})
    twice = kept_for_backward(network, {"audio": (1, 640), "video": (3, 8, 8, 8)}, {})
    # At least what the first norm of each modality gets, and what its convolution gives.
    assert once > 4 * 32 * (320 + 4 * 8 * 8) * 2
    # Frozen weights in another layout are kept once, whatever the size; features grow with it.
    assert once + 4 * 32 * (320 + 4 * 8 * 8) < twice <= 2 * once
