"""A discriminator is only used beside the models, latents and coupling that it was trained with."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mmdisco_cli.assembly import assemble, build_discriminator
from mmdisco_cli.backbones.token import TokenBackbone
from mmdisco_cli.diffusion.backbone import as_joint, count_parameters, move
from mmdisco_cli.errors import DataError, DeviceError, ExitCode, UsageError
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.training.directory import RunDirectory
from mmdisco_cli.training.discriminator import discriminator_job
from mmdisco_cli.training.loop import Context

sys.path.insert(0, str(Path(__file__).parent.parent / "sampling"))
from tiny_models import CPU, REQUEST, VIDEO, make_tiny, save_joint


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return recipes.load(str(make_tiny(tmp_path_factory.mktemp("models"))))


def with_weights(recipe: Recipe, path: Path | str | None) -> Recipe:
    return replace(recipe, sample=replace(recipe.sample, weights=None if path is None else str(path)))


def test_an_assembly_knows_its_modalities_in_order(recipe: Recipe) -> None:
    found = assemble(recipe, CPU)
    assert list(found.modalities) == ["audio", "video"]
    assert found.shapes == {"audio": (3, 20), "video": (2, 4, 2, 2)}
    assert found.pooled == {"audio": 0, "video": 0}
    assert found.discriminator is not None
    assert found.discriminator.about["name"] == "energy"
    assert not any(p.requires_grad for p in found.discriminator.module.parameters())


def test_the_modules_weights_are_those_of_the_file(recipe: Recipe, tmp_path: Path) -> None:
    save_joint(tmp_path / "same.safetensors", recipe)
    files = recipe.sample.weights, tmp_path / "same.safetensors"
    first, second = (assemble(with_weights(recipe, file), CPU) for file in files)
    assert first.discriminator is not None
    assert second.discriminator is not None
    torch.testing.assert_close(first.discriminator.module.state_dict(), second.discriminator.module.state_dict())
    assert first.discriminator.fingerprint == second.discriminator.fingerprint


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"coupling": "logsnr"}, "coupling logsnr, but the recipe has index"),
        ({"shapes": {"audio": (3, 40), "video": (2, 4, 2, 2)}}, r"audio latents of shape \(3, 40\).* \(3, 20\)"),
        ({"shapes": {"audio": (3, 20)}}, "modalities .'audio'., but the recipe has .'audio', 'video'."),
        ({"backbones": {"audio": "0123", "video": "0"}}, "backbone audio 0123, but the recipe has [0-9a-f]{16}"),
        ({"backbones": {}}, "backbone audio none, but"),
        ({"options": {"heigth": 3}}, "energy knows no such options"),
        ({"options": {"width": 8, "depth": 1, "heads": 2, "steps": 4}}, "does not fit its own description"),
        ({"kind": "backbone"}, "holds a backbone, not a discriminator"),
        ({"options": None, "backbones": None}, "its description is damaged: options, backbones"),
        ({"shapes": {"audio": 3, "video": [2, 4, 2, 2]}}, r"its description is damaged: shapes\.audio"),
        ({"options": {"width": "wide"}}, "its description is damaged: TypeError"),
    ],
)
def test_a_mismatch_is_named_with_both_values(
    recipe: Recipe, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    path = tmp_path / "other.safetensors"
    save_joint(path, recipe, **changed)
    with pytest.raises(DataError, match=said) as raised:
        assemble(with_weights(recipe, path), CPU)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == ExitCode.DATA


def test_a_surplus_backbone_of_the_file_is_named(recipe: Recipe, tmp_path: Path) -> None:
    ours = assemble(recipe, CPU, with_discriminator=False).fingerprints
    save_joint(tmp_path / "three.safetensors", recipe, backbones={**ours, "depth": "12"})
    with pytest.raises(DataError, match="backbone depth 12, but the recipe has none"):
        assemble(with_weights(recipe, tmp_path / "three.safetensors"), CPU)


def test_a_damaged_file_and_an_absent_one_are_data_errors(recipe: Recipe, tmp_path: Path) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"nonsense")
    with pytest.raises(DataError, match="not a readable safetensors"):
        assemble(with_weights(recipe, tmp_path / "bad.safetensors"), CPU)
    with pytest.raises(DataError, match="no weights"):
        assemble(with_weights(recipe, tmp_path / "absent.safetensors"), CPU)


def test_without_weights_it_says_what_to_do(recipe: Recipe) -> None:
    with pytest.raises(UsageError, match=r"`mmdisco train --recipe tiny`.* --set sample\.weights=runs/tiny/train/"):
        assemble(with_weights(recipe, None), CPU)
    with pytest.raises(UsageError, match="has no discriminator: --independent"):
        assemble(replace(with_weights(recipe, None), discriminator=None), CPU)
    assert assemble(with_weights(recipe, None), CPU, with_discriminator=False).discriminator is None


def test_base_models_without_weights_are_not_sampled(recipe: Recipe) -> None:
    audio = replace(recipe.backbones["audio"], options=replace(recipe.backbones["audio"].options, weights=None))
    untrained = replace(recipe, backbones={**recipe.backbones, "audio": audio})
    with pytest.raises(UsageError, match=r"backbones\.audio\.weights: missing; name its .*audio\.weights=PATH"):
        assemble(untrained, CPU, with_discriminator=False)


def test_what_a_factory_refuses_is_named(recipe: Recipe) -> None:
    assert recipe.discriminator is not None
    with pytest.raises(UsageError, match=r"^discriminator energy: .*time axis"):
        build_discriminator(recipe.discriminator, {"x": (3,), "y": (3,)}, {})


def test_a_backbone_without_to_stays_on_the_cpu() -> None:
    class Fixed:
        info = TokenBackbone("video", VIDEO, REQUEST).info
        fingerprint = "fixed"

    joint = as_joint(Fixed())  # type: ignore[arg-type]
    move(joint, CPU)
    with pytest.raises(DeviceError, match="video runs on the CPU only, not on meta"):
        move(joint, torch.device("meta"))
    assert count_parameters(joint) is None


def test_the_built_in_backbone_moves_and_counts() -> None:
    backbone = TokenBackbone("video", VIDEO, REQUEST)
    assert backbone.codec is not None
    parameters = [*backbone.denoiser.parameters(), *backbone.codec.parameters()]
    assert count_parameters(as_joint(backbone)) == sum(p.numel() for p in parameters)
    move(as_joint(backbone), torch.device("meta"))
    moved = [*backbone.denoiser.parameters(), *backbone.codec.parameters()]
    assert {p.device.type for p in moved} == {"meta"}


@pytest.fixture
def prompted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the built-in backbone show its prompts to the discriminator."""
    info = TokenBackbone.info.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(TokenBackbone, "info", property(lambda self: replace(info(self), pooled_dim=4)))


def test_a_discriminator_trained_without_captions_is_shown_no_prompts(
    recipe: Recipe, tmp_path: Path, prompted: None
) -> None:
    path = tmp_path / "prompted.safetensors"
    save_joint(path, recipe)
    said = r"trained without captions.*backbones\.audio and backbones\.video\. Train one with pooled: false"
    with pytest.raises(DataError, match=said):
        assemble(with_weights(recipe, path), CPU)
    assert assemble(with_weights(recipe, path), CPU, with_discriminator=False).pooled == {"audio": 4, "video": 4}


def test_what_its_authors_trained_with_prompts_is_shown_them(recipe: Recipe, tmp_path: Path, prompted: None) -> None:
    path = tmp_path / "published.safetensors"
    save_joint(path, recipe, released="some_release")
    assert assemble(with_weights(recipe, path), CPU).discriminator is not None


def test_training_without_captions_refuses_to_show_prompts(recipe: Recipe, tmp_path: Path, prompted: None) -> None:
    with pytest.raises(UsageError, match=r"backbones\.audio and backbones\.video: .* no captions.* pooled: false"):
        discriminator_job(Context(RunDirectory(tmp_path, recipe), CPU))
