"""The pooled logit over aligned features: it must see pairs and their order in time."""

import torch

from mmdisco_cli.discriminators.aligned import build
from mmdisco_cli.discriminators.options import AlignedOptions

SHAPES = {"audio": (2, 12), "video": (1, 4, 2, 2)}


def randomised():
    torch.manual_seed(0)
    network = build(AlignedOptions(width=8, depth=1, heads=2, steps=4), SHAPES, {}).requires_grad_(False)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return network


def states(batch=3):
    generator = torch.Generator().manual_seed(1)
    x = {m: torch.randn(batch, *shape, generator=generator) for m, shape in SHAPES.items()}
    return x, {m: torch.randn(batch, generator=generator) for m in SHAPES}


def test_the_interaction_is_not_zero():
    network, (x, _) = randomised(), states()
    y = {m: v.flip(0) for m, v in x.items()}

    def logit(audio, video):
        return network({"audio": audio["audio"], "video": video["video"]}, {m: torch.zeros(3) for m in SHAPES})

    mixed = (logit(x, x) - logit(x, y) - logit(y, x) + logit(y, y))[[0, 2]]
    assert mixed.abs().min() > 1e-4


def test_a_shift_in_time_is_seen():
    network, (x, level) = randomised(), states()
    shifted = {**x, "audio": x["audio"].roll(3, 2)}
    assert (network(shifted, level) - network(x, level)).abs().min() > 1e-4
