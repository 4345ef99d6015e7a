"""The network against what MM-Diffusion's own code makes of the same weights and inputs."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from small_networks import UNET, drawn, drawn_weights, small_unet
from torch import Tensor

from mmdisco_mmdiffusion.sizes import unet_config
from mmdisco_mmdiffusion.unet import CoupledUNet, UNetConfig

ASSETS = Path(__file__).parent / "assets"
KEYS = json.loads((ASSETS / "keys_unet.json").read_text())
RECORDED = load_file(ASSETS / "ref_mmdiffusion_unet_small.safetensors")


@pytest.fixture(scope="module")
def released() -> CoupledUNet:
    return CoupledUNet(UNetConfig()).eval().requires_grad_(False)


def test_tensors_are_those_of_the_released_checkpoints(released: CoupledUNet) -> None:
    assert {name: list(x.shape) for name, x in released.state_dict().items()} == KEYS
    assert sum(p.numel() for p in released.parameters()) == 133_675_524


def test_its_sizes_are_read_from_the_shapes() -> None:
    assert unet_config(KEYS, {}) == UNetConfig()
    small = {name: x.shape for name, x in CoupledUNet(UNET).state_dict().items()}
    assert unet_config(small, {"head_channels": 32, "windows": [1, 2]}) == UNET


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["std002", "fanin"])
def test_predictions_are_the_authors(released: CoupledUNet, mode: str) -> None:
    released.load_state_dict(drawn_weights(released, mode))
    video = drawn("input.video", (2, 16, 3, 16, 16)).transpose(1, 2)
    audio, t = drawn("input.audio", (2, 1, 1024)), torch.tensor([37, 811])
    shifts = RECORDED[f"{mode}.small.shift_seed0.shifts"].expand(2, -1)
    for case, given in (("shift_seed0", shifts), ("shift0", torch.zeros_like(shifts))):
        found = released(video, audio, t, given)
        _compare(found[0].transpose(1, 2), f"{mode}.small.{case}.video")
        _compare(found[1], f"{mode}.small.{case}.audio")


def _compare(found: Tensor, name: str) -> None:
    first, (total, norm, largest, _) = RECORDED[f"{name}.first"], RECORDED[f"{name}.stats"].tolist()
    error = found.flatten()[: len(first)] - first
    assert float(error.norm() / first.norm()) < 1e-4
    assert float(found.double().norm()) == pytest.approx(norm, rel=1e-5)
    assert float(found.abs().max()) == pytest.approx(largest, rel=1e-4)
    assert float(found.double().sum()) == pytest.approx(total, abs=1e-4 * norm * len(found.flatten()) ** 0.5)


def inputs(batch: int, frames: int = 5, pixels: int = 8, length: int = 160) -> tuple[Tensor, Tensor, Tensor]:
    video, audio = drawn("video", (batch, 3, frames, pixels, pixels)), drawn("audio", (batch, 1, length))
    return video, audio, torch.tensor([37, 811, 5])[:batch]


def test_a_sample_is_predicted_as_it_is_alone_and_each_has_its_own_shifts() -> None:
    unet, (video, audio, t) = small_unet(), inputs(3)
    shifts = torch.tensor([[4, 1, 0, 1, 3, 0], [0, 0, 1, 0, 4, 2], [2, 1, 1, 1, 1, 1]])
    assert shifts.shape[1] == len(unet.windows)
    together = unet(video, audio, t, shifts)
    for i in range(3):
        row = slice(i, i + 1)
        alone = unet(video[row], audio[row], t[row], shifts[row])
        for m in range(2):
            torch.testing.assert_close(alone[m], together[m][row], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(unet(video, audio, t, 0 * shifts)[0], together[0], atol=1e-2)


def test_clips_of_two_lengths_go_through_one_network() -> None:
    unet = small_unet()
    for frames, length in ((4, 128), (7, 240), (4, 128)):
        video, audio, t = inputs(1, frames, length=length)
        found = unet(video, audio, t, torch.zeros(1, len(unet.windows), dtype=torch.long))
        assert [x.shape for x in found] == [video.shape, audio.shape]


def test_the_modalities_look_at_one_another() -> None:
    unet, (video, audio, t) = small_unet(), inputs(1)
    shifts = torch.zeros(1, len(unet.windows), dtype=torch.long)
    before = unet(video, audio, t, shifts)
    other_audio, other_video = unet(video, -audio, t, shifts), unet(-video, audio, t, shifts)
    assert float((other_audio[0] - before[0]).norm() / before[0].norm()) > 1e-3
    assert float((other_video[1] - before[1]).norm() / before[1].norm()) > 1e-3


def test_half_precision_stays_near() -> None:
    unet, (video, audio, t) = small_unet(), inputs(2)
    shifts = torch.ones(2, len(unet.windows), dtype=torch.long)
    exact = unet(video, audio, t, shifts)
    with torch.autocast("cpu", torch.bfloat16):
        half = unet(video, audio, t, shifts)
    for m in range(2):
        assert float((half[m].float() - exact[m]).norm() / exact[m].norm()) < 0.05


def test_what_does_not_fit_is_refused() -> None:
    unet, (video, audio, t) = small_unet(), inputs(2)
    shifts = torch.zeros(2, len(unet.windows), dtype=torch.long)
    for bad in (
        (video[:1], audio, t, shifts),
        (video, audio, t[:1], shifts),
        (video, audio, t, shifts[:, 1:]),
        (video[..., :6], audio, t, shifts),
        (video, audio[..., :100], t, shifts),
        (video, audio[..., :64], t, shifts),
    ):
        with pytest.raises(ValueError, match=r"batches differ|not multiples|too few"):
            unet(*bad)
    with pytest.raises(ValueError, match="one window less"):
        UNetConfig(windows=(1,))
