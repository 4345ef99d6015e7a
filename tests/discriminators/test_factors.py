"""The discriminator of a shared factor: its closed form, what it says of noise, a true gradient, and what it learns."""

import math

import pytest
import torch

from mmdisco_cli.diffusion.guidance import Separable
from mmdisco_cli.discriminators.factors import SharedFactor, build
from mmdisco_cli.discriminators.options import FactorsOptions
from mmdisco_cli.discriminators.repairing import ReadOnce
from mmdisco_cli.testing import check_discriminator
from mmdisco_cli.training.losses import disc_loss

SHAPES = {"audio": (2, 12), "image": (1, 4, 6), "word": (5,), "video": (1, 3, 2, 2)}
OPTIONS = FactorsOptions(factors=5, width=8, depth=1, heads=2, tokens=6)


def randomised(shapes=SHAPES, pooled=None, options=OPTIONS) -> SharedFactor:
    torch.manual_seed(0)
    network = build(options, shapes, pooled or {}).requires_grad_(False)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network


def states(batch=3, dtype=torch.float32, shapes=SHAPES):
    draw = torch.Generator().manual_seed(1)
    x = {m: torch.randn(batch, *shape, generator=draw, dtype=dtype) for m, shape in shapes.items()}
    return x, {m: torch.randn(batch, generator=draw, dtype=dtype) for m in shapes}


@pytest.mark.parametrize("names", [("audio", "image"), ("image", "word"), ("audio", "image", "word", "video")])
@pytest.mark.parametrize("pooled", [{}, {"image": 7}])
def test_contract(names, pooled):
    shapes = {m: SHAPES[m] for m in names}
    assert check_discriminator(lambda: build(OPTIONS, shapes, pooled), shapes, pooled) == ()
    assert isinstance(build(OPTIONS, shapes, pooled), Separable)


@pytest.mark.parametrize("pooled", [{}, {"image": 7}])
def test_the_logit_is_that_of_the_posteriors(pooled):
    """log sum_k pi_k prod_m p(k | x^m) / pi_k, from probabilities."""
    network, (x, level) = randomised(pooled=pooled), states()
    texts = {m: torch.randn(3, size, generator=torch.Generator().manual_seed(2)) for m, size in pooled.items()}
    prior = network._prior(texts).exp().expand(3, -1)
    ratio = prior.clone()
    for m, read in network.read(x, level, texts).items():
        posterior = (read + prior.log() * (1 - 1 / len(SHAPES))).exp()
        assert torch.allclose(posterior.sum(1), torch.ones(3), atol=1e-5), m
        ratio *= posterior / prior
    assert torch.allclose(network(x, level, texts), ratio.sum(1).log(), atol=1e-5)


def test_what_one_modality_is_read_as_depends_on_that_one():
    network, (x, level) = randomised(), states()
    before = network.read(x, level)
    after = network.read({**x, "image": -x["image"]}, {**level, "image": level["image"] + 1})
    assert not torch.allclose(before["image"], after["image"])
    assert all(torch.equal(before[m], after[m]) for m in SHAPES if m != "image")


def test_noise_says_nothing():
    network, (x, level) = randomised(), states()
    for m in SHAPES:
        logit = network(x, {**{other: torch.full((3,), -20.0) for other in SHAPES}, m: level[m]})
        assert logit.abs().max() < 1e-4, f"{m} alone cannot tell"


def test_the_gradient_is_that_of_finite_differences():
    network, (x, level) = randomised().double(), states(dtype=torch.float64)
    points = {m: v.clone().requires_grad_() for m, v in x.items()}
    found = dict(zip(points, torch.autograd.grad(network(points, level).sum(), list(points.values())), strict=True))
    for m in SHAPES:
        way = torch.randn(x[m].shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        way, step = way / way.norm(), 1e-2
        ahead, behind = (network({**x, m: x[m] + s * step * way}, level).double().sum() for s in (1, -1))
        assert math.isclose(float((ahead - behind) / (2 * step)), float((found[m] * way).sum()), abs_tol=2e-3), m


def test_compared_over_more_axes():
    network, (x, level) = randomised(), states(6)
    read = network.read(x, level)
    logit = network.compare({m: part.unflatten(0, (2, 3)) for m, part in read.items()})
    assert torch.allclose(logit.flatten(), network.compare(read))


CENTRES = torch.tensor([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])
SHARES = torch.tensor([0.5, 0.3, 0.2])


def noisy_pairs(count, generator):
    """Two vectors around the centre of one hidden class, the second turned by a class, in noise as strong as they."""
    k = torch.multinomial(SHARES, count, replacement=True, generator=generator)
    noise = torch.randn(2, count, 2, generator=generator)
    return {"x": (CENTRES[k] + noise[0]) / math.sqrt(2), "y": (CENTRES[k].roll(1, 1) + noise[1]) / math.sqrt(2)}


def exact(x, y):
    """Return the log ratio from the densities of the mixtures."""
    of_x = -(x[:, None] * math.sqrt(2) - CENTRES).square().sum(-1) / 2
    of_y = -(y[:, None] * math.sqrt(2) - CENTRES.roll(1, 1)).square().sum(-1) / 2
    prior = SHARES.log()
    joint = (of_x + of_y + prior).logsumexp(1)
    return joint - (of_x + prior).logsumexp(1) - (of_y + prior).logsumexp(1)


@pytest.mark.slow
def test_it_learns_the_log_ratio_of_a_mixture():
    torch.manual_seed(0)
    options = FactorsOptions(factors=6, width=32, depth=1, heads=2, tokens=1)
    network = build(options, {"x": (2,), "y": (2,)}, {})
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    draw, level = torch.Generator().manual_seed(1), {m: torch.zeros(64) for m in ("x", "y")}
    for _ in range(800):
        once = ReadOnce(network)
        loss = disc_loss(once(noisy_pairs(64, draw), level), once.repaired(64))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    held = noisy_pairs(2000, draw)
    with torch.no_grad():
        found = network(held, {m: torch.zeros(2000) for m in held})
    error = (found - exact(held["x"], held["y"])).abs().mean()
    assert error < 0.15, f"{error:.3f}, of a logit that varies by {float(exact(held['x'], held['y']).std()):.2f}"
