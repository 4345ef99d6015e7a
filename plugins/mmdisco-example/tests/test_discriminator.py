"""The discriminator keeps the contract for what it takes, and refuses the rest in a line."""

import pytest

from mmdisco_cli.testing import check_discriminator
from mmdisco_example import DuetOptions
from mmdisco_example.discriminator import build

SHAPES = {"audio": (2, 20), "video": (2, 20, 1, 1)}


def test_the_discriminator_keeps_the_contract():
    pooled = {"audio": 1, "video": 1}
    assert check_discriminator(lambda: build(DuetOptions(), SHAPES, pooled), SHAPES, pooled) == ()


@pytest.mark.parametrize("audio", [(1, 20), (2, 20, 8)])
@pytest.mark.parametrize("video", [(2, 20, 1, 1), (2, 20, 3, 4)])
def test_it_takes_any_latents_of_one_length_without_conditions(audio, video):
    shapes = {"audio": audio, "video": video}
    assert check_discriminator(lambda: build(DuetOptions(width=8), shapes, {"audio": 0}), shapes) == ()


@pytest.mark.parametrize(
    "shapes", [{"audio": (2, 20), "video": (2, 16, 1, 1)}, {"audio": (2, 20), "x": (2,)}, {"x": (2,)}]
)
def test_it_refuses_latents_that_it_cannot_compare(shapes):
    with pytest.raises(ValueError, match="duet compares step by step"):
        build(DuetOptions(), shapes, {})
