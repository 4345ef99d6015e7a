"""The energy over patches: modalities of any shapes, an inner product, a true gradient, and an interaction."""

import math

import pytest
import torch

from mmdisco_cli.blocks import patchify, unpatchify
from mmdisco_cli.discriminators.interaction import interaction
from mmdisco_cli.discriminators.options import PatchesOptions
from mmdisco_cli.discriminators.patches import build, patch_of
from mmdisco_cli.testing import check_discriminator

SHAPES = {"audio": (2, 12), "image": (1, 4, 6), "word": (5,), "video": (1, 3, 2, 2)}
OPTIONS = PatchesOptions(width=8, depth=1, heads=2, tokens=6)


def randomised(options=OPTIONS, std=0.3):
    torch.manual_seed(0)
    network = build(options, SHAPES, {}).requires_grad_(False)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return network


def states(batch=3, dtype=torch.float32, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x = {m: torch.randn(batch, *shape, generator=generator, dtype=dtype) for m, shape in SHAPES.items()}
    return x, {m: torch.randn(batch, generator=generator, dtype=dtype) for m in SHAPES}


def gradient(network, x, level, *x0):
    points = {m: v.clone().requires_grad_() for m, v in x.items()}
    found = torch.autograd.grad(network(points, level, None, *x0).sum(), list(points.values()))
    return dict(zip(points, found, strict=True))


@pytest.mark.parametrize("names", [("audio", "image"), ("image", "word"), ("audio", "image", "word", "video")])
def test_contract(names):
    shapes = {m: SHAPES[m] for m in names}
    assert check_discriminator(lambda: build(OPTIONS, shapes, {}), shapes) == ()


@pytest.mark.parametrize(
    ("sizes", "most", "patch"),
    [((50,), 16, (5,)), ((28, 28), 16, (7, 7)), ((28, 28), 784, (1, 1)), ((4, 6), 6, (2, 2)), ((1,), 1, (1,)),
     ((7,), 3, (7,)), ((16, 4, 4), 16, (8, 2, 1))],
)  # fmt: skip
def test_patches_tile_a_latent_and_are_few_enough(sizes, most, patch):
    assert patch_of(sizes, most) == patch
    assert math.prod(size // p for size, p in zip(sizes, patch, strict=True)) <= most
    x = torch.randn(2, 3, *sizes, generator=torch.Generator().manual_seed(0))
    assert torch.equal(unpatchify(patchify(x, patch), (3, *sizes), patch), x)


def test_it_begins_at_chance():
    assert build(OPTIONS, SHAPES, {})(*states()).tolist() == [0, 0, 0]


def test_the_gradient_is_that_of_finite_differences():
    network, (x, level) = randomised().double(), states(dtype=torch.float64)
    found = gradient(network, x, level)
    generator = torch.Generator().manual_seed(2)
    for m in SHAPES:
        way = torch.randn(x[m].shape, generator=generator, dtype=torch.float64)
        way, step = way / way.norm(), 1e-2
        ahead, behind = (network({**x, m: x[m] + s * step * way}, level).double().sum() for s in (1, -1))
        # The logit is rounded to float32 and the step squared is 1e-4: that is the error to allow.
        assert math.isclose(float((ahead - behind) / (2 * step)), float((found[m] * way).sum()), abs_tol=2e-3)


def test_the_logit_depends_on_the_tuple():
    network = randomised()
    (x, level), (y, _) = states(64), states(64, seed=5)
    level = {m: v[:1].expand(64) for m, v in level.items()}
    assert interaction(lambda z: network(z, level), x, y) > 1e-3


def test_prompts_change_the_logit():
    torch.manual_seed(0)
    network = build(OPTIONS, SHAPES, {"image": 3})
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x, level = states()
    assert not torch.equal(
        network(x, level, {"image": torch.ones(3, 3)}), network(x, level, {"image": torch.zeros(3, 3)})
    )


def test_new_prompt_layers_change_nothing():
    plain, texts = build(OPTIONS, SHAPES, {}), build(OPTIONS, SHAPES, {"image": 3})
    torch.manual_seed(0)
    for parameter in plain.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    texts.load_state_dict(plain.state_dict(), strict=False)
    x, level = states()
    assert torch.equal(texts(x, level, {"image": torch.ones(3, 3)}), plain(x, level))
