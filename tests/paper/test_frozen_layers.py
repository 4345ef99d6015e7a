"""Each linear map of the frozen blocks, forward and backward, against the trainable module and its autograd."""

import pytest
import torch
import torch.nn.functional as F
from released_weights import distance, drawn

from mmdisco_cli.paper.blocks import AudioConv, VideoConv, VideoPoint
from mmdisco_cli.paper.frozen_halves import Halves
from mmdisco_cli.paper.frozen_layers import PooledConvolution, first_convolution, point_convolution, pool
from mmdisco_cli.paper.frozen_layouts import folded_layout, image_layout, rows_layout, to_images, to_state

VIDEO, MEL, WAVEFORM = (2, 32, 3, 7, 6), (2, 32, 5, 9), (2, 32, 37)


def filled(module):
    for name, parameter in module.named_parameters():
        parameter.data = 0.1 * drawn(name, parameter.shape)
    return module.requires_grad_(False)


def frames_pooled(x):
    return F.avg_pool2d(x.flatten(1, 2), 2).unflatten(1, x.shape[1:3])


def channels_last(x):
    state = x.movedim(1, -1)
    return state[:, :, None] if x.ndim == 3 else state


def channels_first(state, like):
    return (state[:, :, 0] if like.ndim == 3 else state).movedim(-1, 1)


def through_autograd(function, x, g):
    copy = x.clone().requires_grad_()
    y = function(copy)
    return y.detach(), torch.autograd.grad(y, copy, g.expand_as(y))[0]


CASES = {
    "video": (VIDEO, filled(VideoConv(32, 48)), None, lambda y: y),
    "video, pooled": (VIDEO, filled(VideoConv(32, 48)), (2, 2), frames_pooled),
    "mel": (MEL, filled(AudioConv(32, 48, 2)), None, lambda y: y),
    "mel, dilated": (MEL, filled(AudioConv(32, 48, 2, dilation=2)), None, lambda y: y),
    "mel, pooled": (MEL, filled(AudioConv(32, 48, 2)), (1, 2), lambda y: F.avg_pool2d(y, (1, 2))),
    "waveform, pooled": (WAVEFORM, filled(AudioConv(32, 48, 1, dilation=2)), (4,), lambda y: F.avg_pool1d(y, 4)),
    **{
        f"waveform, dilation {d}": (WAVEFORM, filled(AudioConv(32, 48, 1, dilation=d)), None, lambda y: y)
        for d in (1, 2, 4, 16, 64)
    },
}
POINTS = {"video": (VIDEO, filled(VideoPoint(32, 48))), "mel": (MEL, filled(AudioConv(32, 48, 2, kernel=1)))}


def require_same(maps, function, shape):
    x = drawn("input", shape)
    y, _ = through_autograd(function, x, torch.ones(()))
    g = drawn("gradient", y.shape)
    _, expected = through_autograd(function, x, g)
    state, shapes = channels_last(x), []
    for linear in maps:
        shapes.append(state.shape)
        state = linear.forward(state)
    assert distance(channels_first(state, y), y) < 1e-5
    back = channels_last(g)
    for linear, given in zip(reversed(maps), reversed(shapes), strict=True):
        back = linear.backward(back, given)
    assert distance(channels_first(back, x), expected) < 1e-5


@pytest.mark.parametrize("name", CASES)
def test_a_first_convolution_with_its_pooling(name):
    shape, module, pooling, pooled = CASES[name]
    require_same(first_convolution(module, pooling), lambda x: pooled(module(x)), shape)


@pytest.mark.parametrize("name", POINTS)
def test_a_convolution_of_kernel_1(name):
    shape, module = POINTS[name]
    require_same([point_convolution(module)], module, shape)


@pytest.mark.parametrize(
    ("shape", "kernel", "function"),
    [
        (VIDEO, (2, 2), frames_pooled),
        (MEL, (1, 2), lambda x: F.avg_pool2d(x, (1, 2))),
        (WAVEFORM, (4,), lambda x: F.avg_pool1d(x, 4)),
    ],
)
def test_pooling(shape, kernel, function):
    require_same([pool(kernel)], function, shape)


def test_a_residual_takes_no_bias():
    """The bias is in the first half already, and second minus first cancels it."""
    shape, module, *_ = CASES["mel"]
    (linear,) = first_convolution(module, None)
    x, residual = channels_last(drawn("first", shape)), channels_last(drawn("residual", shape))
    found = Halves(linear.forward(x), linear.forward(residual, biased=False))
    assert distance(found.first + found.residual, linear.forward(x + residual)) < 1e-5


@pytest.mark.parametrize("width", [2, 3])
def test_an_output_of_one_pixel_is_computed_in_float32(width):
    """The bfloat16 convolution of stride 2 of some processors gave numbers of no meaning there, or NaN."""
    linear = PooledConvolution(drawn("weight", (128, 128, 3, 3)), None)
    x = drawn("input", (2, 3, 4, width, 128))
    assert torch.equal(linear.forward(x, torch.bfloat16), linear.forward(x))


def test_only_kernels_of_two_dimensions_run_in_low_precision():
    for name, (shape, module, pooling, _) in CASES.items():
        state = channels_last(drawn("input", shape))
        first = first_convolution(module, pooling)[0]
        exact, found = (first.forward(state, dtype) for dtype in (torch.float32, torch.bfloat16))
        assert torch.equal(exact, found) == name.startswith("waveform"), name


@pytest.mark.parametrize("layout", [image_layout, rows_layout, lambda shape: folded_layout(4, shape)])
def test_a_layout_and_back_is_the_identity(layout):
    x = channels_last(drawn("input", WAVEFORM))
    assert torch.equal(to_state(to_images(x, layout), x.shape), x)
