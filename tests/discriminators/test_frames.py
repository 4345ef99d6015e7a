"""One time axis: cut into steps and back, at any rates."""

import pytest
import torch

from mmdisco_cli.discriminators.time_axis import common_steps, from_steps, step_width, to_steps

ODD = {"audio": (2, 50), "mel": (3, 109, 4), "video": (1, 21, 2, 2)}
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


@pytest.mark.parametrize(("most", "steps"), [(64, 21), (16, 16), (3, 3), (2, 1)])
def test_lengths_without_a_common_measure_take_the_steps_of_the_shortest(most, steps):
    assert common_steps(ODD, most) == steps


@pytest.mark.parametrize("shape", ODD.values())
@pytest.mark.parametrize("steps", [1, 3, 16, 21])
def test_steps_that_overlap_come_back(shape, steps):
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    tokens = to_steps(x, steps)
    assert tokens.shape == (2, steps, step_width(shape, steps))
    assert torch.equal(from_steps(tokens, shape), x)


@pytest.mark.parametrize(("length", "steps"), [(50, 16), (109, 21), (1024, 21), (7, 5), (21, 20)])
def test_a_step_that_overlaps_holds_all_of_its_time(length, steps):
    tokens = to_steps(torch.arange(length).view(1, 1, -1), steps)[0]
    for k in range(steps):
        held = tokens[k].tolist()
        assert set(range(k * length // steps, (k + 1) * length // steps)) <= set(held)
        assert max(held) - min(held) < length / steps + 1


def test_no_time_no_alignment():
    with pytest.raises(ValueError, match=r"need a time axis in every modality, got .*'x': \(4,\)"):
        common_steps({"audio": (3, 80), "x": (4,)}, 16)
