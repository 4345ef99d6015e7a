"""Every recipe that ships can be loaded, and none is lost on the way into the wheel."""

import re
from pathlib import Path

import pytest

from mmdisco_cli.errors import PluginError
from mmdisco_cli.recipes.recipe import load, packaged
from mmdisco_cli.registry.plugins import HOST, Registry, load_registry

# A new recipe is added here by hand, so that one that vanishes is noticed.
NAMES = {
    "bounce", "bounce-audio", "bounce-video", "bounce-first", "bounce-second", "bounce-methods",
    "bounce-text", "bounce-text-audio", "bounce-text-video", "bounce-text-control",
    "clips", "clips-audio", "clips-video",
    "gaussians", "gaussians3", "gaussians-ablation",
    "digits", "digits3", "digits-vae", "digits-gan", "text-image", "text-audio",
    "digits-pairs", "digits-both", "digits-domain", "digits-quality", "digits-scale", "digits-losses",
    "digits-audio", "digits-image", "digits-image-vae", "digits-image-gan",
    "landscape", "aist",
    "audioldm-animatediff", "audioldm2-cogvideox", "auffusion-videocrafter2", "stableaudio-wan",
}  # fmt: skip
NEEDS = {
    "landscape": "mmdisco-mmdiffusion", "aist": "mmdisco-mmdiffusion",
    "audioldm-animatediff": "mmdisco-diffusers", "audioldm2-cogvideox": "mmdisco-diffusers",
    "auffusion-videocrafter2": "mmdisco-diffusers", "stableaudio-wan": "mmdisco-diffusers",
}  # fmt: skip


def test_all_are_packaged():
    source = {path.stem for path in (Path(__file__).parent.parent / "recipes").glob("*.yaml")}
    assert set(packaged()) == source == NAMES


@pytest.mark.parametrize(("name", "plugin"), NEEDS.items())
def test_without_its_plugin_one_line_says_what_to_install(name, plugin):
    builtins = Registry(tuple(p for p in load_registry().plugins if p.distribution == HOST))
    with pytest.raises(PluginError) as raised:
        load(name, registry=builtins)
    for line in str(raised.value).splitlines():  # one for each backbone
        assert re.fullmatch(rf".*yaml:\d+:\d+: .*: in a clone of mmdisco: pip install \./plugins/{plugin}", line)


@pytest.mark.parametrize("name", sorted(packaged().keys() - NEEDS.keys()))
def test_it_loads_and_says_what_it_makes(name, tmp_path):
    recipe = load(name)
    assert recipe.name == name
    assert recipe.summary
    assert recipe.backbones
    resolved = tmp_path / f"{name}.yaml"
    resolved.write_text(recipe.to_yaml())
    assert load(str(resolved)) == recipe


@pytest.mark.parametrize("name", sorted(packaged()))
def test_its_header_gives_the_command(name):
    text = packaged()[name].read_text()
    header = text[: text.index("\n" + next(line for line in text.splitlines() if not line.startswith("#")))]
    assert f"--recipe {name}" in header
