"""The frozen forward and backward of the paper's discriminators against autograd of the trainable blocks."""

import pytest
import torch
from released_weights import drawn, filled, small, texts_of

from mmdisco_cli.diffusion.guidance import logit_and_gradient
from mmdisco_cli.diffusion.schedules import Levels
from mmdisco_cli.paper.blocks import AudioConv
from mmdisco_cli.paper.configs import RELEASED
from mmdisco_cli.paper.frozen_blocks import LinearMaps
from mmdisco_cli.paper.frozen_halves import Halves
from mmdisco_cli.paper.frozen_layers import first_convolution

SHAPES = {
    "mmdiffusion_landscape": {"audio": (1, 330), "video": (3, 4, 13, 11)},
    "audioldm_animediff_vggsound": {"audio": (8, 6, 9), "video": (4, 4, 9, 8)},
    "auffusion_videocrafter2_vggsound": {"audio": (4, 6, 8), "video": (4, 3, 8, 7)},
}
"""Sizes that halve to odd ones, so that pooling drops a row or column, the same one in both."""


def trainable_and_frozen(config, dtype=torch.float32, autocast=False):
    network = filled(small(config)).to(dtype)
    x = {m: drawn(f"input.{m}", (2, *shape)) for m, shape in SHAPES[config].items()}
    levels = {m: Levels(torch.tensor([500.0, 90.0]), torch.tensor([0.3, 0.8]), torch.tensor([0.95, 0.6])) for m in x}
    texts = texts_of(RELEASED[config], 2, False)
    trainable = logit_and_gradient(network.requires_grad_(True), x, levels, texts)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        frozen = logit_and_gradient(network.requires_grad_(False), x, levels, texts)
    return trainable, frozen


@pytest.mark.parametrize("config", SHAPES)
def test_frozen_weights_give_the_logit_and_gradient_of_trainable_ones(config):
    (value, gradient), (frozen_value, frozen) = trainable_and_frozen(config)
    torch.testing.assert_close(frozen_value, value, rtol=1e-5, atol=1e-5)
    for m, g in gradient.items():
        assert (frozen[m] - g).norm() < 1e-5 * g.norm()


@pytest.mark.parametrize("config", SHAPES)
def test_autocast_stays_near(config):
    (_, gradient), (frozen_value, frozen) = trainable_and_frozen(config, autocast=True)
    assert frozen_value.dtype == torch.float32
    for m, g in gradient.items():
        assert frozen[m].dtype == torch.float32
        assert 1e-5 * g.norm() < (frozen[m] - g).norm() < 0.05 * g.norm()


@pytest.mark.parametrize("autocast", [False, True])
def test_both_halves_of_a_guided_batch_are_each_evaluated_alone(autocast):
    """With and without a text: the halves differ by little, and the guidance scale multiplies that difference."""
    config = "audioldm_animediff_vggsound"
    network = filled(small(config))
    x = {m: drawn(f"input.{m}", (2, *shape)) for m, shape in SHAPES[config].items()}
    t, texts = torch.tensor([90, 700]), [texts_of(RELEASED[config], 2, negative) for negative in (True, False)]

    def evaluate(x, t, texts):
        copies = {m: s.clone().requires_grad_() for m, s in x.items()}
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logit = network.at_times(copies, t, texts)
        return logit.detach(), dict(zip(copies, torch.autograd.grad(logit.sum(), tuple(copies.values())), strict=True))

    twice = {m: torch.cat([s, s]) for m, s in x.items()}
    both = {m: torch.cat([text[m] for text in texts]) for m in x}
    logit, gradient = evaluate(twice, t.repeat(2), both)
    network.requires_grad_(True)  # the trainable blocks, one half at a time
    autocast, tolerance = False, 0.02 if autocast else 1e-5
    alone = [evaluate(x, t, text) for text in texts]
    torch.testing.assert_close(logit, torch.cat([value for value, _ in alone]), rtol=tolerance, atol=tolerance)
    for m, g in gradient.items():
        plain = torch.cat([found[m] for _, found in alone])
        assert (g - plain).norm() < tolerance * plain.norm()
        apart, exact = ((halves[1] - halves[0]) for halves in (g.chunk(2), plain.chunk(2)))
        assert (apart - exact).norm() < 2 * tolerance * exact.norm()


def test_what_the_guidance_scale_multiplies_stays_in_float32():
    """Forward, low precision is for the residual alone; backward, for the first half alone."""
    module = AudioConv(32, 32, 2).requires_grad_(False)
    x = Halves(drawn("first", (1, 5, 8, 32)), drawn("residual", (1, 5, 8, 32)))
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        maps = LinearMaps(first_convolution(module, None))
        results.append((maps.forward(x, dtype), maps.backward(x, dtype)))
    (forward, backward), (low_forward, low_backward) = results
    assert torch.equal(forward.first, low_forward.first)
    assert not torch.equal(forward.residual, low_forward.residual)
    assert not torch.equal(backward.first, low_backward.first)
    assert torch.equal(backward.residual, low_backward.residual)


def test_a_second_backward_is_refused_not_wrong():
    config = "mmdiffusion_landscape"
    network = filled(small(config))
    x = {m: drawn(f"input.{m}", (1, *shape)).requires_grad_() for m, shape in SHAPES[config].items()}
    logit = network.at_times(x, torch.tensor([90]))
    torch.autograd.grad(logit.sum(), tuple(x.values()))
    with pytest.raises(RuntimeError, match="a second time"):
        torch.autograd.grad(logit.sum(), tuple(x.values()))


def test_trainable_weights_still_have_their_second_derivatives():
    config = "mmdiffusion_landscape"
    network = filled(small(config)).requires_grad_(True)
    x = {m: drawn(f"input.{m}", (1, *shape)) for m, shape in SHAPES[config].items()}
    levels = {m: Levels(torch.tensor([500.0]), torch.tensor([0.3]), torch.tensor([0.95])) for m in x}
    _, gradient = logit_and_gradient(network, x, levels, create_graph=True)
    gradient["video"].square().sum().backward()
    stem = network.feature_extractor.input_blocks[0][0].video_conv.video_conv_spatial.weight
    assert stem.grad is not None
    assert stem.grad.norm() > 0
