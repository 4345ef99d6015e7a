"""The weights in the package are those that its recipes describe, and small enough to ship."""

import pytest
import torch

from mmdisco_cli.assembly import assemble
from mmdisco_cli.diffusion.backbone import unwrap
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.tensors.files import read_safetensors
from mmdisco_cli.training.directory import changes, training_fingerprint
from mmdisco_cli.weights_file import PACKAGED, read_about

KINDS = {
    "bounce-audio": "backbone", "bounce-video": "backbone", "bounce": "discriminator",
    "digits-audio": "backbone", "digits-image": "backbone", "digits": "discriminator", "digits3": "discriminator",
    "bounce-text-audio": "backbone", "bounce-text-video": "backbone", "bounce-text": "discriminator",
}  # fmt: skip
CHOSEN_AFTERWARDS = {"digits": ["sample.window"], "digits3": ["sample.window"]}
"""What the recipe samples with and (5) was not trained with: the window, which their headers name."""
MOST_OF_BASES = {"digits3": 0.27}
"""Parameters of a discriminator by those of its base models, where not a quarter: a bank of words has none."""
JUDGES = "digits-judges"
MOST_BYTES, MOST_OF_DIGITS = 48_000_000, 15_000_000
JOINED = ("bounce", "bounce-text", "digits", "digits3")


def test_all_shipped_weights_are_known_and_fit_into_the_package() -> None:
    files = sorted(PACKAGED.glob("*.safetensors"))
    assert {file.stem for file in files} == {*KINDS, JUDGES}
    assert sum(file.stat().st_size for file in files) <= MOST_BYTES
    assert sum(file.stat().st_size for file in files if file.stem.startswith("digits")) <= MOST_OF_DIGITS


def test_each_file_holds_what_its_recipe_would_train() -> None:
    for name, kind in KINDS.items():
        about = read_about(PACKAGED / f"{name}.safetensors", kind)
        trained, recipe = recipes.load_plain(about["recipe"], name), recipes.load(name)
        assert about["fingerprint"] == training_fingerprint(trained), name
        assert changes(about["recipe"], recipe) == CHOSEN_AFTERWARDS.get(name, []), name
        assert about["results"], name


@pytest.mark.parametrize("name", JOINED)
def test_the_discriminator_belongs_to_the_shipped_base_models(name: str) -> None:
    joined = assemble(recipes.load(name), torch.device("cpu"))
    assert joined.discriminator is not None
    assert joined.discriminator.about["backbones"] == joined.fingerprints


@pytest.mark.parametrize("name", JOINED)
def test_the_discriminator_is_small_beside_the_base_models(name: str) -> None:
    joined = assemble(recipes.load(name), torch.device("cpu"))
    assert joined.discriminator is not None
    modules = [getattr(unwrap(b.backbone), "module", None) for b in joined.bases]  # a bank has no weights
    bases = [p for module in modules if module is not None for p in module.parameters()]
    own = sum(p.numel() for p in joined.discriminator.module.parameters())
    assert own <= MOST_OF_BASES.get(name, 0.25) * sum(p.numel() for p in bases)


def test_a_shipped_discriminator_samples_as_its_recipe_does() -> None:
    about = read_about(PACKAGED / "bounce.safetensors", "discriminator")
    # Keys that came later have their defaults in both.
    assert recipes.load_plain(about["recipe"], "bounce.safetensors") == recipes.load("bounce")


def test_the_judges_say_how_often_they_are_right() -> None:
    results = read_about(PACKAGED / f"{JUDGES}.safetensors", "judge")["results"]
    assert set(results) == {"audio", "image"}
    assert min(results.values()) > 0.97


def test_models_of_captions_are_shipped_as_what_they_add_to_those_without() -> None:
    for kind in ("audio", "video"):
        about = read_about(PACKAGED / f"bounce-text-{kind}.safetensors", "backbone")
        base = read_about(PACKAGED / f"bounce-{kind}.safetensors", "backbone")
        assert about["base"]["name"] == f"bounce-{kind}"
        assert about["codec"] == base["codec"]
        stored = read_safetensors(PACKAGED / f"bounce-text-{kind}.safetensors")
        assert not any(name.startswith("codec.") for name in stored)


def test_the_discriminator_of_captions_knows_them_and_the_empty_text() -> None:
    joined = assemble(recipes.load("bounce-text"), torch.device("cpu"))
    assert joined.discriminator is not None
    assert joined.discriminator.knows_texts
    assert joined.discriminator.knows_no_text
    assert joined.reads_prompts
