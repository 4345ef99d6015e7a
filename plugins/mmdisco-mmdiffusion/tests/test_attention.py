"""Windowed attention in one call against plain loops."""

import pytest
import torch
from looped_attention import looped
from small_networks import drawn, fill

from mmdisco_mmdiffusion.attention import CrossAttention, attend


@pytest.mark.parametrize(
    ("frames", "length", "window", "shift"),
    [
        (4, 32, 1, (0, 3)),
        (4, 32, 2, (2, 1)),
        (5, 31, 3, (1, 2)),  # sound that the frames do not divide
        (3, 3, 8, (0, 0)),  # a window wider than the clip
        (1, 7, 1, (0, 0)),
        (6, 13, 4, (2, 0)),
    ],
)
def test_it_is_what_the_loops_give(frames: int, length: int, window: int, shift: tuple[int, int]) -> None:
    block = CrossAttention(64, 16, window)
    fill(block)
    video, audio = drawn("v", (2, frames, 2, 3, 64)), drawn("a", (2, length, 64))
    expected = looped(block, video, audio, torch.tensor(shift))
    for found, wanted in zip(block(video, audio, torch.tensor(shift)), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_without_a_window_everything_is_seen() -> None:
    block, wide = CrossAttention(64, 16, None), CrossAttention(64, 16, 4)
    fill(block)
    fill(wide)
    video, audio = drawn("v", (2, 4, 2, 2, 64)), drawn("a", (2, 12, 64))
    expected = looped(wide, video, audio, torch.zeros(2, dtype=torch.long))
    for found, wanted in zip(block(video, audio, None), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_each_head_attends_with_channels_of_its_own() -> None:
    q, k, v = (drawn(name, (3, 5, 8)) for name in "qkv")
    whole = attend(q, k, v, 2)
    halves = [attend(*(x[..., part] for x in (q, k, v)), 1) for part in (slice(0, 4), slice(4, 8))]
    torch.testing.assert_close(whole, torch.cat(halves, -1))


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="do not divide"):
        CrossAttention(96, 64, 1)
