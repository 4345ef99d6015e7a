"""Blocks: patches that come back, second derivatives that exist, and noise levels that differ."""

import copy

import pytest
import torch
import torch.nn.functional as F

from mmdisco_cli.blocks import (
    LevelEmbedding,
    TransformerBlock,
    convolve_as_batch,
    convolve_tokens,
    map_rows,
    modulated_norm,
    patchify,
    unpatchify,
    zero,
)

LAYOUTS = [((3, 8), (2,)), ((2, 6, 4), (3, 2)), ((2, 4, 6, 2), (1, 3, 2))]


def tiny_block(width=4, heads=2):
    torch.manual_seed(0)
    block = TransformerBlock(width, heads).double()
    for parameter in block.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return block


def inputs(width=4, tokens=3, batch=2):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, tokens, width, generator=generator, dtype=torch.float64)
    return x, 0.3 * torch.randn(batch, 6, width, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("shape", "patch"), LAYOUTS)
def test_patches_come_back(shape, patch):
    x = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(unpatchify(patchify(x, patch), shape, patch), x)


def test_a_token_is_one_patch_in_raster_order():
    x = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    tokens = patchify(x, (2, 3))
    assert tokens.shape == (2, 4, 18)
    for number, (row, column) in enumerate([(0, 0), (0, 3), (2, 0), (2, 3)]):
        assert torch.equal(tokens[:, number], x[:, :, row : row + 2, column : column + 3].flatten(1))


@pytest.mark.parametrize("patch", [(3,), (2, 2), (16,)])
def test_a_patch_that_does_not_tile_is_refused(patch):
    with pytest.raises(ValueError, match=r"do not tile a latent of \(8,\)"):
        patchify(torch.zeros(1, 3, 8), patch)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="3 attention heads do not divide a width of 8"):
        TransformerBlock(8, 3)


def test_attention_is_that_of_torch():
    block, (x, modulation) = tiny_block(), inputs()
    shift_a, scale_a, gate_a, shift_b, scale_b, gate_b = (modulation + block.table)[:, :, None].unbind(1)
    q, k, v = block.qkv(modulated_norm(x, shift_a, scale_a)).chunk(3, dim=-1)
    heads = [t.reshape(2, 3, 2, 2).transpose(1, 2) for t in (q, k, v)]
    mixed = F.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(2, 3, 4)
    x1 = x + (1 + gate_a) * block.merge(mixed)
    hidden = F.gelu(block.up(modulated_norm(x1, shift_b, scale_b)), approximate="tanh")
    torch.testing.assert_close(block(x, modulation), x1 + (1 + gate_b) * block.down(hidden))


def test_second_derivatives():
    block = tiny_block()
    x, modulation = (t.requires_grad_() for t in inputs())
    assert torch.autograd.gradcheck(block, (x, modulation), fast_mode=True)
    assert torch.autograd.gradgradcheck(block, (x, modulation), fast_mode=True)


def test_norm_before_modulation():
    x, _ = inputs()
    plain = modulated_norm(x, torch.zeros(4), torch.zeros(4))
    torch.testing.assert_close(plain.mean(-1), torch.zeros_like(plain[..., 0]), atol=1e-12, rtol=0)
    torch.testing.assert_close(plain.square().mean(-1), torch.ones_like(plain[..., 0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(modulated_norm(x, torch.tensor(2.0), torch.tensor(1.0)), 2 * plain + 2)


def test_every_noise_level_has_its_own_embedding():
    torch.manual_seed(0)
    embed = LevelEmbedding(16).requires_grad_(False)
    levels = torch.linspace(-10, 10, 81)
    distances = torch.cdist(embed(levels), embed(levels)) + 10 * torch.eye(81)
    assert float(distances.min()) > 0.01
    step = (embed(levels + 1e-3) - embed(levels)).norm(dim=1)
    assert float(step.max()) < 0.01


def test_zero_reaches_every_parameter():
    layers = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 3), "b": torch.nn.Sequential(torch.nn.Linear(3, 1))})
    zero(layers)
    assert all(not p.any() for p in layers.parameters())


def test_rows_are_those_of_float64_however_many_there_are():
    """In float32 both a product of few rows and the end of a pointwise operation go other ways."""
    torch.manual_seed(0)
    embedding = LevelEmbedding(56)
    x = torch.randn(19, 64)
    exact = copy.deepcopy(embedding.net).double()(x.double())
    half_a_digit = exact.abs() * 2.0**-24 * 1.001
    for rows in range(1, 20):
        found = map_rows(embedding.net, x[:rows])
        assert found.dtype == torch.float32
        assert ((found - exact[:rows]).abs() <= half_a_digit[:rows]).all()
    assert ((embedding.net(x) - exact).abs() > half_a_digit).any()
    log_snr = torch.linspace(-5, 5, 19)
    torch.testing.assert_close(embedding(log_snr[:2]), embedding(log_snr)[:2], rtol=1e-5, atol=1e-6)


def test_no_sample_is_convolved_on_its_own():
    """On a CPU torch leaves oneDNN then, and rounds otherwise than among others."""
    torch.manual_seed(0)
    layer, x, passed = torch.nn.Conv1d(64, 48, 3, padding=1), torch.randn(5, 64, 16), []
    layer.register_forward_pre_hook(lambda _, inputs: passed.append(len(inputs[0])))
    for rows in range(1, 6):
        torch.testing.assert_close(convolve_as_batch(layer, x[:rows]), layer(x)[:rows], rtol=1e-5, atol=1e-5)
    assert passed[::2] == [2, 2, 3, 4, 5]


@pytest.mark.parametrize(("width", "tokens", "batch"), [(5, 16, 3), (3, 1, 1), (5, 2, 2), (1, 7, 1)])
def test_tokens_are_convolved_as_by_the_layer_itself(width, tokens, batch):
    torch.manual_seed(0)
    layer = torch.nn.Conv1d(6, 6, width, padding=width // 2, groups=6).double()
    x = torch.randn(batch, tokens, 6, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(convolve_tokens(layer, x), layer(x.transpose(1, 2)).transpose(1, 2))

    def mapped(x, weight, bias):
        return torch.func.functional_call(Tokens(layer), {"layer.weight": weight, "layer.bias": bias}, x)

    inputs = (x, *(p.detach().clone().requires_grad_() for p in (layer.weight, layer.bias)))
    assert torch.autograd.gradcheck(mapped, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(mapped, inputs, fast_mode=True)


class Tokens(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return convolve_tokens(self.layer, x)


def test_tokens_keep_their_dtype_under_autocast():
    torch.manual_seed(0)
    layer, x = torch.nn.Conv1d(6, 6, 5, padding=2, groups=6), torch.randn(2, 16, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(convolve_tokens(layer, x), convolve_tokens(layer, x.clone()))
        assert convolve_tokens(layer, x).dtype == torch.float32
        assert convolve_tokens(layer, x.bfloat16()).dtype == torch.bfloat16
