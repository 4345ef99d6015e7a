"""The energy form: an inner product, a true gradient, and an interaction."""

import math

import torch

from mmdisco_cli.discriminators.energy import build
from mmdisco_cli.discriminators.options import EnergyOptions
from mmdisco_cli.discriminators.time_axis import from_steps

SHAPES = {"audio": (2, 12), "video": (1, 4, 2, 2)}
OPTIONS = EnergyOptions(width=8, depth=1, heads=2, steps=4)


def randomised(std=0.3):
    torch.manual_seed(0)
    network = build(OPTIONS, SHAPES, {}).requires_grad_(False)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return network


def states(batch=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    x = {m: torch.randn(batch, *shape, generator=generator, dtype=dtype) for m, shape in SHAPES.items()}
    return x, {m: torch.randn(batch, generator=generator, dtype=dtype) for m in SHAPES}


def gradient(network, x, level):
    points = {m: v.clone().requires_grad_() for m, v in x.items()}
    return dict(zip(points, torch.autograd.grad(network(points, level).sum(), list(points.values())), strict=True))


def test_it_begins_at_chance():
    assert build(OPTIONS, SHAPES, {})(*states()).tolist() == [0, 0, 0]


def test_the_logit_is_an_inner_product_with_a_joint_network():
    network, (x, level) = randomised(), states()
    features, embedded = network.trunk(x, level, None)
    expected = network.bias(embedded)[:, 0]
    for m in SHAPES:
        estimate = from_steps(network.heads[m](features), SHAPES[m])
        # 2 alpha / (2 alpha + sigma), which is what sigmoid(log-SNR + log 2) says.
        ratio = 2 * level[m].exp() / (1 + 2 * level[m].exp())
        expected = expected + ratio * torch.einsum("bn,bn->b", x[m].flatten(1), estimate.flatten(1))
    torch.testing.assert_close(network(x, level), expected, atol=1e-5, rtol=1e-5)


def test_the_gradient_is_that_of_finite_differences():
    network, (x, level) = randomised().double(), states(dtype=torch.float64)
    found = gradient(network, x, level)
    generator = torch.Generator().manual_seed(2)
    for m in SHAPES:
        for _ in range(3):
            way = torch.randn(x[m].shape, generator=generator, dtype=torch.float64)
            way, step = way / way.norm(), 1e-2
            ahead, behind = (network({**x, m: x[m] + s * step * way}, level).double().sum() for s in (1, -1))
            # The logit is rounded to float32 and the step squared is 1e-4: that is the error to allow.
            assert math.isclose(float((ahead - behind) / (2 * step)), float((found[m] * way).sum()), abs_tol=2e-3)


def test_one_modality_changes_the_gradient_of_the_other():
    network, (x, level) = randomised(), states()
    before = gradient(network, x, level)["audio"]
    after = gradient(network, {**x, "video": -x["video"]}, level)["audio"]
    assert (before - after).abs().amax((1, 2)).min() > 1e-3


def test_noise_alone_moves_nothing():
    network, (x, _) = randomised(), states()
    pushed = gradient(network, x, {m: torch.full((3,), -20.0) for m in SHAPES})
    assert all(float(g.abs().max()) < 1e-6 for g in pushed.values())


def test_reading_x0_makes_the_joint_network_the_gradient_itself():
    options = EnergyOptions(width=8, depth=1, heads=2, steps=4, reads_x0=True)
    torch.manual_seed(0)
    network = build(options, SHAPES, {}).requires_grad_(False)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, level = states()
    x0 = {m: torch.randn(v.shape, generator=torch.Generator().manual_seed(5)) for m, v in x.items()}
    points = {m: v.clone().requires_grad_() for m, v in x.items()}
    logit = network(points, level, None, x0)
    found = dict(zip(points, torch.autograd.grad(logit.sum(), list(points.values())), strict=True))
    features, embedded = network.trunk({m: torch.cat([x[m], x0[m]], 1) for m in x}, level, None)
    expected = network.bias(embedded)[:, 0] + network.verdict(features).mean(1)[:, 0]
    for m in SHAPES:
        ratio = (2 * level[m].exp() / (1 + 2 * level[m].exp())).view(-1, *[1] * (x[m].ndim - 1))
        torch.testing.assert_close(found[m], ratio * from_steps(network.heads[m](features), SHAPES[m]))
        expected = expected + (x[m] * found[m]).flatten(1).sum(1)
    torch.testing.assert_close(logit, expected)


def test_a_sample_is_judged_alike_whatever_the_batch():
    torch.manual_seed(0)
    shapes, pooled = {"audio": (12, 80), "video": (8, 16, 4, 4)}, {"video": 24}
    network = build(EnergyOptions(width=48, depth=1, heads=2, steps=16), shapes, pooled).requires_grad_(False)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x = {m: torch.randn(4, *shape) for m, shape in shapes.items()}
    level, prompt = torch.randn(4), torch.randn(4, 24)

    def whole(rows):
        points = {m: v[:rows].clone().requires_grad_() for m, v in x.items()}
        logit = network(points, dict.fromkeys(x, level[:rows]), {"video": prompt[:rows]})
        return [logit.detach(), *torch.autograd.grad(logit.sum(), list(points.values()))]

    together = whole(4)
    for rows in (1, 2, 3):
        for few, many in zip(whole(rows), together, strict=True):
            assert float((few - many[:rows]).abs().max()) < 1e-5 * float(many.abs().max())
