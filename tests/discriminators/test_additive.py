"""The control: whatever its weights, no modality can affect the guidance of the other."""

import torch

from mmdisco_cli.discriminators.additive import build
from mmdisco_cli.discriminators.options import AdditiveOptions

SHAPES = {"audio": (2, 12), "video": (1, 4, 2, 2), "touch": (1, 8)}


def randomised():
    torch.manual_seed(0)
    network = build(AdditiveOptions(width=8, depth=1, heads=2, steps=4), SHAPES, {}).requires_grad_(False)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return network


def states(seed):
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.randn(5, *shape, generator=generator) for m, shape in SHAPES.items()}


LEVEL = {m: torch.zeros(5) for m in SHAPES}


def gradient(network, x, modality):
    point = x[modality].clone().requires_grad_()
    (value,) = torch.autograd.grad(network({**x, modality: point}, LEVEL).sum(), point)
    return value


def test_the_gradient_of_one_modality_ignores_the_others_exactly():
    network, x, y = randomised(), states(0), states(1)
    for m in SHAPES:
        alone = gradient(network, x, m)
        assert alone.abs().max() > 0
        assert torch.equal(gradient(network, {**y, m: x[m]}, m), alone)


def test_the_interaction_is_zero():
    network, x, y = randomised().double(), states(0), states(1)
    x, y = ({m: v.double() for m, v in s.items()} for s in (x, y))

    def logit(audio, video):
        level = {m: v.double() for m, v in LEVEL.items()}
        return network({**x, "audio": audio["audio"], "video": video["video"]}, level)

    mixed = logit(x, x) - logit(x, y) - logit(y, x) + logit(y, y)
    assert logit(x, x).std() > 0.1
    assert mixed.abs().max() < 1e-5  # four roundings to float32
