"""The vector discriminator: what it must satisfy to guide, and the saddle that its features avoid."""

import pytest
import torch

from mmdisco_cli.discriminators.mlp import build
from mmdisco_cli.discriminators.options import MLPOptions

SHAPES = {"x": (1,), "y": (2,)}


def randomised(frequencies=8, pooled=None):
    torch.manual_seed(0)
    network = build(MLPOptions(width=16, frequencies=frequencies), SHAPES, pooled or {})
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def states(batch=4):
    generator = torch.Generator().manual_seed(1)
    x = {m: torch.randn(batch, *shape, generator=generator) for m, shape in SHAPES.items()}
    return x, {m: torch.randn(batch, generator=generator) for m in SHAPES}


def test_it_begins_at_chance():
    assert build(MLPOptions(), SHAPES, {})(*states()).tolist() == [0, 0, 0, 0]


def test_samples_do_not_see_one_another():
    network, (x, level) = randomised(), states()
    together = network(x, level)
    assert together.shape == (4,)
    for i in range(4):
        alone = network({m: v[i : i + 1] for m, v in x.items()}, {m: v[i : i + 1] for m, v in level.items()})
        torch.testing.assert_close(alone, together[i : i + 1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("frequencies", [0, 8])
def test_one_modality_changes_the_gradient_of_the_other(frequencies):
    network, (x, level) = randomised(frequencies), states()

    def gradient(y):
        point = x["x"].clone().requires_grad_()
        (value,) = torch.autograd.grad(network({"x": point, "y": y}, level).sum(), point)
        return value

    assert (gradient(x["y"]) - gradient(-x["y"])).abs().min() > 1e-4


def test_no_signal_no_logit():
    network, (x, _) = randomised(), states()
    noise = network(x, {m: torch.full((4,), -20.0) for m in SHAPES})
    assert noise.abs().max() < 1e-6


def test_it_hears_pooled_conditions():
    network, (x, level) = randomised(pooled={"x": 3, "y": 0}), states()
    one, other = (network(x, level, {"x": torch.full((4, 3), value)}) for value in (0.0, 1.0))
    assert not torch.isclose(one, other).any()


def test_it_takes_vectors_only():
    with pytest.raises(ValueError, match="mlp takes vectors only, not video"):
        build(MLPOptions(), {"x": (1,), "video": (3, 4, 4)}, {})
