"""What all time-aligned discriminators share, tested on each of them: any modalities, prompts, levels, refusals."""

import pytest
import torch

from mmdisco_cli.discriminators import additive, aligned, energy
from mmdisco_cli.discriminators.options import AdditiveOptions, AlignedOptions, EnergyOptions
from mmdisco_cli.discriminators.trunk import AlignedTrunk

SHAPES = {"audio": (2, 20), "video": (1, 4, 2, 2), "touch": (1, 8)}
SIZES = {"width": 8, "depth": 1, "heads": 2, "steps": 4}
BUILDS = {
    "energy": (energy.build, EnergyOptions(**SIZES)),
    "aligned": (aligned.build, AlignedOptions(**SIZES)),
    "additive": (additive.build, AdditiveOptions(**SIZES)),
}


@pytest.fixture(params=sorted(BUILDS))
def make(request):
    build, options = BUILDS[request.param]

    def randomised(shapes, pooled=None):
        torch.manual_seed(0)
        network = build(options, shapes, pooled or {}).requires_grad_(False)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.4)
        return network

    return randomised


def states(shapes, batch=3):
    generator = torch.Generator().manual_seed(1)
    x = {m: torch.randn(batch, *shape, generator=generator) for m, shape in shapes.items()}
    return x, {m: torch.randn(batch, generator=generator) for m in shapes}


@pytest.mark.parametrize("count", [2, 3])
def test_any_number_of_modalities(make, count):
    shapes = dict(list(SHAPES.items())[:count])
    network, (x, level) = make(shapes), states(shapes)
    logit = network(x, level)
    assert (logit.shape, logit.dtype) == ((3,), torch.float32)
    for m in shapes:
        changed = network({**x, m: x[m] + 1}, level)
        assert (changed - logit).abs().min() > 1e-6, m


def test_samples_do_not_see_one_another(make):
    network, (x, level) = make(SHAPES), states(SHAPES)
    together = network(x, level)
    for i in range(3):
        alone = network({m: v[[i]] for m, v in x.items()}, {m: v[[i]] for m, v in level.items()})
        torch.testing.assert_close(alone, together[[i]], atol=1e-5, rtol=1e-5)


def test_every_level_matters(make):
    network, (x, level) = make(SHAPES), states(SHAPES)
    for m in SHAPES:
        assert (network(x, {**level, m: level[m] + 1}) - network(x, level)).abs().min() > 1e-6, m


def test_pooled_prompts_are_used(make):
    network, (x, level) = make(SHAPES, {"audio": 5, "video": 0, "touch": 2}), states(SHAPES)
    silent = network(x, level)
    for m, size in (("audio", 5), ("touch", 2)):
        one, other = (network(x, level, {m: torch.full((3, size), value)}) for value in (1.0, 2.0))
        assert (one - other).abs().min() > 1e-6, m
        assert (one - silent).abs().min() > 1e-6, m
    assert torch.equal(network(x, level, {}), silent)


def test_without_a_declared_size_a_prompt_is_not_looked_at(make):
    network, (x, level) = make(SHAPES), states(SHAPES)
    assert torch.equal(network(x, level, {"audio": torch.ones(3, 5)}), network(x, level))


def test_second_derivatives_reach_the_weights(make):
    network, (x, level) = make(SHAPES).requires_grad_(True), states(SHAPES)
    points = {m: v.requires_grad_() for m, v in x.items()}
    gradients = torch.autograd.grad(network(points, level).sum(), list(points.values()), create_graph=True)
    sum(g.square().sum() for g in gradients).backward()
    blocks = [p for name, p in network.named_parameters() if "blocks" in name and name.endswith("qkv.weight")]
    assert blocks
    assert all(float(p.grad.abs().max()) > 0 for p in blocks)


@pytest.mark.parametrize("name", sorted(BUILDS))
def test_layouts_without_time_are_refused(name):
    build, options = BUILDS[name]
    with pytest.raises(ValueError, match="need a time axis in every modality"):
        build(options, {"audio": (2, 20), "text": (7,)}, {})


@pytest.mark.parametrize("build", [energy.build, aligned.build, additive.build])
def test_heads_must_divide_the_width(build):
    with pytest.raises(ValueError, match="3 attention heads do not divide a width of 8"):
        build(EnergyOptions(width=8, depth=1, heads=3, steps=4), SHAPES, {})


def test_the_trunk_mixes_modalities_in_every_step():
    torch.manual_seed(0)
    trunk = AlignedTrunk(SHAPES, {}, 8, 1, 2, 4).requires_grad_(False)
    for parameter in trunk.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    x, level = states(SHAPES, 1)
    features, embedded = trunk(x, level, None)
    assert (features.shape, embedded.shape) == ((1, 4, 8), (1, 8))
    later = {m: v.clone() for m, v in x.items()}
    later["audio"][:, :, 15:] += 1  # the last quarter, which attention relates to the first
    assert (trunk(later, level, None)[0] - features).abs().amax(2).min() > 1e-6
