"""One time axis: cut into steps and back, at any rates."""

import pytest
import torch

from mmdisco_cli.discriminators.frames import common_steps, from_steps, step_width, to_steps

SHAPES = {"audio": (3, 80), "video": (2, 16, 4, 4), "mel": (1, 48, 5)}


@pytest.mark.parametrize("shape", SHAPES.values())
@pytest.mark.parametrize("steps", [1, 8, 16])
def test_steps_come_back(shape, steps):
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    tokens = to_steps(x, steps)
    assert tokens.shape == (2, steps, step_width(shape, steps))
    assert torch.equal(from_steps(tokens, shape), x)


@pytest.mark.parametrize("shape", SHAPES.values())
def test_a_step_holds_what_happens_in_its_time_and_nothing_else(shape):
    x = torch.arange(shape[1]).view(1, 1, -1, *[1] * (len(shape) - 2)).expand(1, *shape)
    tokens, length = to_steps(x, 8)[0], shape[1] // 8
    for k in range(8):
        assert tokens[k].unique().tolist() == list(range(k * length, (k + 1) * length))


@pytest.mark.parametrize(("most", "steps"), [(64, 16), (16, 16), (15, 8), (1, 1)])
def test_the_finest_common_step(most, steps):
    assert common_steps(SHAPES, most) == steps


def test_coprime_lengths_have_one_step():
    assert common_steps({"a": (1, 9), "b": (1, 16)}, 64) == 1


def test_no_time_no_alignment():
    with pytest.raises(ValueError, match=r"need a time axis in every modality, got .*'x': \(4,\)"):
        common_steps({"audio": (3, 80), "x": (4,)}, 16)
