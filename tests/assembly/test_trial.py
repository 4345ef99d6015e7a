"""A plugin's discriminator is tried as training and sampling will use it: with conditions, and differentiated twice."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from mmdisco_cli.assembly.trial import try_discriminator
from mmdisco_cli.errors import PluginError
from mmdisco_cli.hookspecs import DiscriminatorSpec

SHAPES = {"x": (2,), "y": (3,)}


@dataclass(frozen=True)
class Options:
    pass


SPEC = DiscriminatorSpec("judge", "", Options, lambda: Judge, 1, owner="odd 1.0")


class Judge(nn.Module):
    """One that takes a condition of x."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2 + 3 + 4, 1)

    def forward(self, x, log_snr, pooled=None):
        return self.layer(torch.cat([*x.values(), pooled["x"]], 1)).tanh()[:, 0]


class OnlyOnce(torch.autograd.Function):
    """A sine that can be differentiated once."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * x.cos()


class Once(Judge):
    def forward(self, x, log_snr, pooled=None):
        return super().forward({m: OnlyOnce.apply(state) for m, state in x.items()}, log_snr, pooled)


def test_conditions_of_the_base_models_are_given():
    module = Judge()
    try_discriminator(SPEC, module, SHAPES, {"x": 4, "y": 0}, twice=True)
    assert all(p.grad is None for p in module.parameters())
    with pytest.raises(PluginError, match=r"plugin odd 1\.0: 'judge': its forward fails: "):
        try_discriminator(SPEC, module, SHAPES, {"x": 5, "y": 0})


def test_one_that_training_cannot_differentiate_is_named_before_it_starts():
    try_discriminator(SPEC, Once(), SHAPES, {"x": 4}, twice=False)
    with pytest.raises(PluginError, match=r"plugin odd 1\.0: 'judge': its forward fails: .*differentiate twice"):
        try_discriminator(SPEC, Once(), SHAPES, {"x": 4}, twice=True)
