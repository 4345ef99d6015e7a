"""The norm of the frozen blocks with its SiLU, forward and backward, against group_norm, silu and their autograd."""

import pytest
import torch
import torch.nn.functional as F
from released_weights import distance, drawn

from mmdisco_cli.paper import frozen_norms
from mmdisco_cli.paper.frozen_halves import Halves
from mmdisco_cli.paper.frozen_norms import norm_silu, norm_silu_backward

SHAPE = (2, 3, 5, 4, 64)  # (B, T, H, W, C)


def modulation(name, batch=2):
    return 1 + 0.3 * drawn(f"{name} scale", (batch, 64)), drawn(f"{name} shift", (batch, 64))


def reference(x, g, scale, shift):
    """Return y and the gradient by x in float64."""
    x = x.double().requires_grad_()
    normed = F.group_norm(x.movedim(-1, 1), 32).movedim(1, -1)
    scale, shift = (p.double()[:, None, None, None] for p in (scale, shift))
    y = F.silu(normed * scale + shift)
    return y.detach(), torch.autograd.grad(y, x, g.double())[0]


@pytest.fixture(params=[1 << 18, 640])
def chunk(request, monkeypatch):
    monkeypatch.setattr(frozen_norms, "CHUNK", request.param)


@pytest.mark.usefixtures("chunk")
@pytest.mark.parametrize("batch", [1, 2])
def test_a_batch_that_is_not_split(batch):
    x, g = 3 + drawn("x", SHAPE), drawn("g", SHAPE)
    scale, shift = modulation("own", batch)
    y, norms = norm_silu(Halves(x, None), [(scale, shift)])
    expected, by_x = reference(x, g, scale, shift)
    assert y.residual is None
    assert distance(y.first, expected) < 1e-5
    assert distance(norm_silu_backward(Halves(g.clone(), None), Halves(x, None), norms).first, by_x) < 1e-5


@pytest.mark.usefixtures("chunk")
def test_halves_that_differ():
    x, g = Halves(drawn("x", SHAPE), 0.1 * drawn("rx", SHAPE)), Halves(drawn("g", SHAPE), 0.1 * drawn("rg", SHAPE))
    both = [modulation("first"), modulation("second")]
    y, norms = norm_silu(x, both)
    (y1, g1), (y2, g2) = reference(x.first, g.first, *both[0]), reference(sum(x), sum(g), *both[1])
    found = norm_silu_backward(Halves(*(part.clone() for part in g)), x, norms)
    assert distance(y.first, y1) < 1e-5
    assert distance(y.residual, y2 - y1) < 1e-5
    assert distance(found.first, g1) < 1e-5
    assert distance(found.residual, g2 - g1) < 1e-5


def test_halves_of_one_state_with_two_gradients():
    """Before the first text: one Jacobian for both, so the residual of the gradient goes through it alone."""
    x, g = drawn("x", SHAPE), Halves(drawn("g", SHAPE), 1e-4 * drawn("rg", SHAPE))
    own = modulation("own")
    _, norms = norm_silu(Halves(x, None), [own])
    found = norm_silu_backward(Halves(*(part.clone() for part in g)), Halves(x, None), norms)
    assert distance(found.first, reference(x, g.first, *own)[1]) < 1e-5
    assert distance(found.residual, reference(x, g.residual, *own)[1]) < 1e-5
