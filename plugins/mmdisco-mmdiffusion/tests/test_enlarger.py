"""The super-resolution network against diffusers' U-Net, which shares no code with it, and its way to large frames."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler, UNet2DModel
from small_networks import ENLARGER, drawn, small_enlarger
from torch import Tensor

from mmdisco_mmdiffusion.enlargement import enlarge, reduce
from mmdisco_mmdiffusion.enlarger import Enlarger, EnlargerConfig
from mmdisco_mmdiffusion.sizes import enlarger_config

KEYS = json.loads((Path(__file__).parent / "assets" / "keys_sr.json").read_text())
DEEP = EnlargerConfig(channels=32, multipliers=(1, 1, 2), res_blocks=2, heads=2, attention=(1, 2))


def test_tensors_are_those_of_the_released_checkpoint() -> None:
    with torch.device("meta"):
        released = Enlarger(EnlargerConfig())
    assert {name: list(x.shape) for name, x in released.state_dict().items()} == KEYS
    assert sum(p.numel() for p in released.parameters()) == 311_027_910


def test_its_sizes_are_read_from_the_shapes() -> None:
    assert enlarger_config(KEYS, {}) == EnlargerConfig()
    small = {name: x.shape for name, x in Enlarger(DEEP).state_dict().items()}
    assert enlarger_config(small, {"heads": 2}) == DEEP


@pytest.mark.parametrize("config", [ENLARGER, DEEP])
def test_predictions_are_those_of_diffusers(config: EnlargerConfig) -> None:
    ours, theirs = small_enlarger(config), oracle(config)
    theirs.load_state_dict(dict(translated(ours, config)))
    x, low, t = drawn("x", (2, 3, 16, 24)), drawn("low", (2, 3, 16, 24)), torch.tensor([960, 40])
    expected = theirs(torch.cat([x, low], 1), t).sample[:, :3]
    torch.testing.assert_close(ours(x, low, t), expected, rtol=1e-4, atol=1e-4)


def oracle(c: EnlargerConfig) -> UNet2DModel:
    depths = range(len(c.multipliers))
    down = ["AttnDownBlock2D" if d in c.attention else "ResnetDownsampleBlock2D" for d in depths]
    up = ["AttnUpBlock2D" if d in c.attention else "ResnetUpsampleBlock2D" for d in reversed(depths)]
    widths = [m * c.channels for m in c.multipliers]
    module = UNet2DModel(
        in_channels=6, out_channels=6, block_out_channels=widths, layers_per_block=c.res_blocks,
        down_block_types=down, up_block_types=up, resnet_time_scale_shift="scale_shift", downsample_type="resnet",
        upsample_type="resnet", attention_head_dim=8, norm_eps=1e-5, attn_norm_num_groups=32,
        flip_sin_to_cos=True, freq_shift=0,
    )  # fmt: skip
    for part in module.modules():
        if hasattr(part, "to_q"):  # its heads are of one size, ours of one number
            part.heads, part.scale = c.heads, (part.to_q.in_features // c.heads) ** -0.5
    return module.eval().requires_grad_(False)


RENAMED = (
    ("in_layers.0", "norm1"), ("in_layers.2", "conv1"), ("emb_layers.1", "time_emb_proj"),
    ("out_layers.0", "norm2"), ("out_layers.3", "conv2"), ("skip_connection", "conv_shortcut"),
    ("proj_out", "to_out.0"), ("norm", "group_norm"),
)  # fmt: skip


def translated(module: Enlarger, c: EnlargerConfig) -> Iterator[tuple[str, Tensor]]:
    """Yield our tensors under diffusers' names."""
    fixed = {"time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2",
             "input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out"}  # fmt: skip
    for name, value in module.state_dict().items():
        place, leaf = name.rsplit(".", 1)
        if place in fixed:
            yield f"{fixed[place]}.{leaf}", value
            continue
        root, *rest = place.split(".")
        if root == "middle_block":
            index, inner = int(rest[0]), ".".join(rest[1:])
            home = "mid_block.attentions.0" if index == 1 else f"mid_block.resnets.{index // 2}"
        else:
            home, inner = placed(root, int(rest[0]), int(rest[1]), c), ".".join(rest[2:])
        yield from renamed(home, inner, leaf, value, c.heads)


def placed(root: str, stage: int, part: int, c: EnlargerConfig) -> str:
    depth, index = divmod(stage - (root == "input_blocks"), c.res_blocks + 1)
    attends = (len(c.multipliers) - 1 - depth if root == "output_blocks" else depth) in c.attention
    side = "down" if root == "input_blocks" else "up"
    if (side == "down" and index == c.res_blocks) or part > attends:
        return f"{side}_blocks.{depth}.{side}samplers.0"
    return f"{side}_blocks.{depth}.{'attentions' if part else 'resnets'}.{index}"


def renamed(home: str, inner: str, leaf: str, value: Tensor, heads: int) -> Iterator[tuple[str, Tensor]]:
    if inner == "qkv":  # here each head's q, k and v lie together, there all heads' q
        for name, part in zip("qkv", value.squeeze(-1).unflatten(0, (heads, 3, -1)).unbind(1), strict=True):
            yield f"{home}.to_{name}.{leaf}", part.flatten(0, 1)
        return
    for ours, theirs in RENAMED:
        if inner == ours:
            yield f"{home}.{theirs}.{leaf}", value.squeeze(-1) if inner == "proj_out" and leaf == "weight" else value


def test_ddim_is_that_of_diffusers_and_frames_share_their_noise() -> None:
    network, video = small_enlarger(), drawn("video", (2, 3, 3, 4, 4)).clamp(-1, 1)
    noise = drawn("noise", (2, 3, 16, 16))
    found = enlarge(network, video, noise, 4)
    assert found.shape == (2, 3, 3, 16, 16)
    scheduler = DDIMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", clip_sample=True,
                              steps_offset=0, set_alpha_to_one=True)  # fmt: skip
    scheduler.set_timesteps(4)
    for b in range(2):
        for f in range(3):
            low = torch.nn.functional.interpolate(video[b : b + 1, :, f], size=(16, 16), mode="bilinear")
            x = noise[b : b + 1]
            for t in scheduler.timesteps:
                x = scheduler.step(network(x, low, t[None]), t, x, use_clipped_model_output=True).prev_sample
            torch.testing.assert_close(found[b, :, f], x[0], rtol=1e-3, atol=1e-4)


def test_half_precision_stays_near() -> None:
    network, video = small_enlarger(), drawn("video", (1, 3, 2, 4, 4)).clamp(-1, 1)
    noise = drawn("noise", (1, 3, 16, 16))
    exact = enlarge(network, video, noise, 2)
    with torch.autocast("cpu", torch.bfloat16):
        half = enlarge(network, video, noise, 2)
    assert 0 < float((half.float() - exact).norm() / exact.norm()) < 0.05


def test_reducing_is_the_mean_of_each_16_pixels() -> None:
    video = drawn("video", (1, 3, 2, 8, 12))
    assert reduce(video).shape == (1, 3, 2, 2, 3)
    torch.testing.assert_close(reduce(video)[0, 1, 1, 0, 2], video[0, 1, 1, :4, 8:].mean())


def test_sizes_that_its_levels_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="not multiples of 2"):
        small_enlarger()(torch.zeros(1, 3, 6, 5), torch.zeros(1, 3, 6, 5), torch.zeros(1))
