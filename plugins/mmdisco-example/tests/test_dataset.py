"""The data set keeps the contract, and its clips are what the base models and the captions say."""

import pytest
import torch

from mmdisco_cli.data.contract import Captioned
from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.testing import check_dataset
from mmdisco_example import MelodiesOptions
from mmdisco_example.backbone import mean_of
from mmdisco_example.dataset import build

REQUEST = Request(seconds=2.0, height=32, width=32)


def test_the_data_set_keeps_the_contract():
    shapes = {"audio": (1, 32000), "video": (3, 20, 32, 32)}
    assert check_dataset(lambda: build(MelodiesOptions(), REQUEST), shapes) == ()
    assert isinstance(build(MelodiesOptions(), REQUEST), Captioned)


@pytest.mark.parametrize("correlation", [0.0, 0.7, 1.0])
def test_the_hand_follows_the_sound_as_closely_as_the_options_say(correlation):
    clips = build(MelodiesOptions(correlation=correlation), REQUEST)
    pairs = torch.stack([clips.pair(index) for index in range(500)])  # (500, 2, 2, T)
    words = clips.captions(range(500), ["audio"])["audio"]
    pairs[:, :, 0] -= torch.tensor([mean_of(word) for word in words])[:, None, None]
    for channel in pairs.unbind(2):
        both = channel.transpose(0, 1).flatten(1)
        assert torch.corrcoef(both)[0, 1] == pytest.approx(correlation, abs=0.03)
        assert both.mean(1).abs().max() < 0.03
        assert both.std(1).sub(1).abs().max() < 0.03


def test_other_clips_have_another_name():
    clips = [build(MelodiesOptions(), REQUEST), build(MelodiesOptions(correlation=0.5), REQUEST)]
    clips += [build(MelodiesOptions(), Request(seconds=1.0)), clips[0].split("heldout")]
    assert len({one.fingerprint for one in clips}) == 4
