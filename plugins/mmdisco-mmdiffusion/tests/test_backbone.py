"""The model as mmdisco uses it: the contract, what it snaps, and draws that no batch changes."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import ENLARGER, SPOKEN, UNET, drawn, save_enlarger, save_unet, small_unet

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.diffusion.backbone import Base, Plan, Request, State, count_parameters
from mmdisco_cli.diffusion.coupling import INDEX, coupled_grid
from mmdisco_cli.errors import DataError
from mmdisco_cli.recipes.schema import SampleConfig
from mmdisco_cli.sampling.draw import draw
from mmdisco_cli.testing import check_backbone
from mmdisco_mmdiffusion.backbone import MMDiffusionBackbone, build
from mmdisco_mmdiffusion.options import MMDiffusionOptions
from mmdisco_mmdiffusion.shapes import planned
from mmdisco_mmdiffusion.unet import UNetConfig

SMALL = Request(frames=3, height=8, width=8)
CONFIG = SampleConfig(sampler="dpmpp_3s", steps=4)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("weights")
    unet, enlarger = save_unet(folder / "unet.safetensors"), save_enlarger(folder / "sr.safetensors")
    return {"weights": str(unet), "sr_weights": str(enlarger)}


def model(files: dict[str, str], **options: Any) -> MMDiffusionBackbone:
    return build("film", MMDiffusionOptions(weights=files["weights"], **options), SMALL)


def assembled(backbone: MMDiffusionBackbone, request: Request = SMALL) -> Assembly:
    return Assembly({"film": Base(backbone, backbone.plan(request))}, INDEX, torch.device("cpu"))


def test_it_keeps_the_contract(files: dict[str, str]) -> None:
    check_backbone(model(files), SMALL)


def test_it_keeps_the_contract_with_enlargement(files: dict[str, str]) -> None:
    enlarging = model(files, sr_weights=files["sr_weights"], sr_steps=2, shift=1, spacing="leading")
    check_backbone(enlarging, replace(SMALL, height=32, width=32))


def test_the_released_model_is_planned_as_it_was_trained() -> None:
    plan = planned(Request(), UNetConfig(), None)
    assert plan.modalities["video"].latent_shape == plan.modalities["video"].media_shape == (3, 16, 64, 64)
    assert plan.modalities["audio"].media_shape == (1, 25600)
    assert plan.modalities["audio"].seconds == plan.modalities["video"].seconds == 1.6
    assert plan.notes == ()


def test_what_it_cannot_follow_is_snapped_and_said() -> None:
    plan = planned(Request(seconds=2.04, fps=25, height=61), UNetConfig(), None)
    assert plan.modalities["video"].media_shape == (3, 20, 64, 64)
    assert plan.modalities["audio"].media_shape == (1, 32000)
    for said in ("seconds 2.04 becomes 2", "fps 25 becomes 10", "height 61 becomes 64", "trained on 16 of 64 x 64"):
        assert any(said in note for note in plan.notes)


def test_enlarged_frames_are_four_times_their_latents() -> None:
    video = planned(Request(), UNetConfig(), ENLARGER).modalities["video"]
    assert (video.latent_shape, video.media_shape) == ((3, 16, 64, 64), (3, 16, 256, 256))
    video = planned(Request(height=130, width=256), UNetConfig(), ENLARGER).modalities["video"]
    assert (video.latent_shape, video.media_shape) == ((3, 16, 32, 64), (3, 16, 128, 256))


def test_a_sample_is_the_same_in_any_batch_and_whatever_ran_before(files: dict[str, str]) -> None:
    assembly = assembled(model(files))
    together = draw(assembly, CONFIG, 3, [4, 5, 6]).latents
    for place, index in enumerate([4, 5, 6]):
        alone = draw(assembly, CONFIG, 3, [index]).latents
        for m, x in alone.items():
            error = x - together[m][place : place + 1]
            assert float(error.norm() / x.norm()) < 1e-3


def test_the_seed_decides_and_no_state_of_the_process_does(files: dict[str, str]) -> None:
    """Shifts, the sampler's noise and that of the enlargement alike, as the pixels of a whole video show."""

    enlarging, request = model(files, sr_weights=files["sr_weights"], sr_steps=1), replace(SMALL, height=32, width=32)
    assembly, config = assembled(enlarging, request), replace(CONFIG, steps=2)

    def sampled(seed: int) -> State:
        torch.rand(3), random.random()  # whatever ran before
        return assembly.keyed(seed, [7]).decode(draw(assembly, config, seed, [7]).latents)

    first, again, other = sampled(1), sampled(1), sampled(2)
    for m, x in first.items():
        assert torch.equal(x, again[m])
        assert float((x - other[m]).norm() / x.norm()) > 0.1


def test_shifts_are_drawn_anew_for_each_sample_and_step(files: dict[str, str]) -> None:
    """With a fixed shift everything else is the same, so what differs comes from the draws."""
    for shift, same in ((None, False), (0, True)):
        backbone = model(files, shift=shift)
        x = {"video": drawn("v", (1, 3, 3, 8, 8)).repeat(2, 1, 1, 1, 1), "audio": drawn("a", (1, 1, 4800))}
        x["audio"] = x["audio"].repeat(2, 1, 1)
        t = dict.fromkeys(x, torch.tensor([600.0, 600.0]))
        found = backbone.keyed(torch.tensor([1, 2])).predict(x, t, {}, Plan({}))["video"]
        assert torch.allclose(found[0], found[1], rtol=1e-3, atol=1e-3) == same


def test_enlargement_is_drawn_by_the_samples_key(files: dict[str, str]) -> None:
    backbone = model(files, sr_weights=files["sr_weights"], sr_steps=2)
    latent = {"video": drawn("v", (1, 3, 3, 4, 4)).clamp(-1, 1).repeat(2, 1, 1, 1, 1)}
    plan = Plan({})
    found = backbone.keyed(torch.tensor([1, 2])).decode(latent, plan)["video"]
    assert not torch.allclose(found[0], found[1], atol=1e-2)
    alone = backbone.keyed(torch.tensor([2])).decode({"video": latent["video"][:1]}, plan)["video"]
    torch.testing.assert_close(alone[0], found[1], rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="not a multiple of the 3 samples"):
        backbone.keyed(torch.tensor([1, 2, 3])).decode(latent, plan)


def test_only_what_is_wanted_is_decoded(files: dict[str, str]) -> None:
    backbone = model(files, sr_weights=files["sr_weights"])
    sound: State = {"audio": drawn("a", (2, 1, 4800))}
    assert backbone.decode(sound, Plan({})).keys() == backbone.encode(sound, Plan({})).keys() == {"audio"}


def test_one_modality_can_be_held_while_the_other_is_sampled(files: dict[str, str]) -> None:
    assembly = assembled(model(files))
    video = drawn("given", (2, 3, 3, 8, 8)).clamp(-1, 1)
    found = draw(assembly, CONFIG, 0, [0, 1], given={"video": video}).latents
    free = draw(assembly, CONFIG, 0, [0, 1]).latents
    assert not torch.allclose(found["audio"], free["audio"], atol=1e-2)
    grid = coupled_grid(assembly.bases, CONFIG.steps)["video"]
    # The grid ends with a little noise, under which the given modality is left too.
    assert float((found["video"] - video).std()) < 2 * float(grid.sigma[-1])


def test_two_times_for_one_network_are_refused(files: dict[str, str]) -> None:
    x = {"video": torch.zeros(1, 3, 3, 8, 8), "audio": torch.zeros(1, 1, 4800)}
    with pytest.raises(ValueError, match="at one time"):
        model(files).predict(x, {"video": torch.zeros(1), "audio": torch.ones(1)}, {}, Plan({}))


def test_the_fingerprint_follows_the_predictions_and_the_variant_the_rest(files: dict[str, str]) -> None:
    plain, shifted = model(files).info, model(files, shift=0).info
    large, spaced = model(files, sr_weights=files["sr_weights"]).info, model(files, spacing="leading").info
    assert plain.fingerprint == large.fingerprint == spaced.fingerprint != shifted.fingerprint
    assert len({plain.variant, large.variant, spaced.variant}) == 3


def test_its_weights_are_counted(files: dict[str, str]) -> None:
    unet = sum(p.numel() for p in small_unet().parameters())
    assert count_parameters(model(files)) == unet
    larger = count_parameters(model(files, sr_weights=files["sr_weights"]))
    assert larger is not None
    assert larger > unet


def test_the_base_is_asked_once_for_both(files: dict[str, str]) -> None:
    backbone = model(files)
    base = Base(backbone, backbone.plan(SMALL))
    assert list(base.modalities) == ["audio", "video"]


@pytest.mark.parametrize(
    ("said", "drop", "message"),
    [
        (SPOKEN | {"windows": [1]}, (), "one window less"),
        (SPOKEN | {"head_channels": 48}, (), "do not divide"),
        (SPOKEN, ("video_out.2.video_conv.bias",), "missing video_out.2.video_conv.bias"),
        (SPOKEN, ("input_blocks.0.0.video_conv.video_conv_spatial.weight",), "are not those of mmdiffusion-unet"),
    ],
)
def test_a_file_that_does_not_fit_is_named(
    tmp_path: Path, said: dict[str, Any], drop: tuple[str, ...], message: str
) -> None:
    path = save_unet(tmp_path / "bad.safetensors", said, drop)
    with pytest.raises(DataError, match=message) as raised:
        model({"weights": str(path)})
    assert str(path) in str(raised.value)


def test_networks_are_not_taken_for_one_another(files: dict[str, str]) -> None:
    with pytest.raises(DataError, match="holds mmdiffusion-sr, not mmdiffusion-unet"):
        model({"weights": files["sr_weights"]})
    with pytest.raises(DataError, match="no weights 'absent"):
        model({"weights": "absent.safetensors"})
    with pytest.raises(ValueError, match="mmdisco convert"):
        MMDiffusionOptions()


def test_the_small_sizes_are_read_back(files: dict[str, str]) -> None:
    assert model(files).unet.config == UNET
