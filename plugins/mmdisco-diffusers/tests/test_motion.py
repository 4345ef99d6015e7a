"""A U-Net with motion modules is made of the weights of both models, as diffusers makes it, and without a copy."""

import diffusers
import pytest
import torch

from mmdisco_diffusers.animatediff import joined


def models(dtype: torch.dtype) -> tuple[diffusers.UNet2DConditionModel, diffusers.MotionAdapter]:
    """Return a tiny image U-Net and an adapter for it, of random weights."""
    torch.manual_seed(0)
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16), layers_per_block=1, sample_size=8, cross_attention_dim=8, norm_num_groups=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        attention_head_dim=2,
    )  # fmt: skip
    adapter = diffusers.MotionAdapter(
        block_out_channels=(8, 16), motion_layers_per_block=1, motion_norm_num_groups=2, motion_num_attention_heads=2
    )
    for parameter in adapter.parameters():
        torch.nn.init.normal_(parameter)
    return unet.to(dtype), adapter.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_u_net_with_motion_is_that_of_diffusers_in_the_memory_of_its_parts(dtype: torch.dtype) -> None:
    unet, adapter = models(dtype)
    expected = diffusers.UNetMotionModel.from_unet2d(unet, adapter).to(dtype)
    found = joined(unet, adapter)
    assert dict(found.config) == dict(expected.config)
    assert found.state_dict().keys() == expected.state_dict().keys()
    assert all(torch.equal(x, expected.state_dict()[name]) for name, x in found.state_dict().items())
    given = {x.data_ptr() for model in (unet, adapter) for x in model.state_dict().values()}
    assert {x.data_ptr() for x in (*found.parameters(), *found.buffers())} <= given
    x, tokens = torch.randn(1, 4, 3, 8, 8, dtype=dtype), torch.randn(3, 5, 8, dtype=dtype)
    with torch.no_grad():
        one, other = (m(x, torch.tensor([3]), encoder_hidden_states=tokens).sample for m in (found, expected))
    assert torch.equal(one, other)
