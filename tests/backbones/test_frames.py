"""The codec of frames: every frame by itself, latents normalised, and it learns to reconstruct."""

import pytest
import torch

from mmdisco_cli.backbones.frame_codec import FrameCodec, fold_frames, unfold_frames
from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import UsageError


def codec(channels=3):
    torch.manual_seed(0)
    return FrameCodec(channels)


def clips(batch=2, frames=3, size=32):
    return torch.rand(batch, 3, frames, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_shapes_follow_the_plan():
    network = codec()
    plan = network.plan(Request(frames=3, fps=10.0, height=32, width=48))
    assert (plan.latent_shape, plan.media_shape) == ((3, 3, 2, 3), (3, 3, 32, 48))
    assert (plan.rate, plan.seconds) == (10.0, pytest.approx(0.3))
    with torch.no_grad():
        latent = network.encode(torch.zeros(2, *plan.media_shape))
        assert latent.shape == (2, *plan.latent_shape)
        decoded = network.decode(100 * latent + 100)
    assert decoded.shape == (2, *plan.media_shape)
    assert float(decoded.abs().max()) <= 1


def test_sizes_are_whole_cells():
    plan = codec().plan(Request(frames=1, fps=1.0, height=70, width=3))
    assert plan.media_shape == (3, 1, 64, 16)


@pytest.mark.parametrize("missing", ["frames", "fps", "height", "width"])
def test_nothing_is_guessed(missing):
    requested = {"frames": 4, "fps": 10.0, "height": 32, "width": 32, missing: None}
    with pytest.raises(UsageError, match="needs frames, fps, height and width"):
        codec().plan(Request(**requested))


def test_folding():
    video = torch.arange(2 * 3 * 4 * 5 * 6).view(2, 3, 4, 5, 6)
    frames = fold_frames(video)
    assert torch.equal(frames[1 * 4 + 2], video[1, :, 2])
    assert torch.equal(unfold_frames(frames, 2), video)


@torch.no_grad()
def test_frames_do_not_see_one_another():
    network, video = codec(), clips()
    whole = network.encode(video)
    torch.testing.assert_close(network.encode(video[1:, :, 2:]), whole[1:, :, 2:])
    torch.testing.assert_close(network.decode(whole[1:, :, 2:]), network.decode(whole)[1:, :, 2:])


def test_bytes_are_enough():
    network, video = codec(), clips()
    items = network.compact(video)
    assert (items.dtype, items.shape) == (torch.uint8, (6, 3, 32, 32))
    assert float((network.expand(items) - fold_frames(video)).abs().max()) <= 0.5 / 127.5 + 1e-6
    ends = torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1, 1).expand(2, 3, 1, 16, 16)
    assert torch.equal(network.expand(network.compact(ends)), fold_frames(ends))


@torch.no_grad()
def test_measured_latents_are_normalised():
    network, video = codec(), clips(8)
    network.measure(fold_frames(video))
    latent = network.encode(video)
    torch.testing.assert_close(latent.mean((0, 2, 3, 4)), torch.zeros(3), atol=1e-3, rtol=0)
    torch.testing.assert_close(latent.std((0, 2, 3, 4)), torch.ones(3), atol=1e-3, rtol=0)


@torch.no_grad()
def test_normalisation_cancels():
    network, video = codec(), clips()
    before = network.decode(network.encode(video))
    network.measure(fold_frames(video))
    torch.testing.assert_close(network.decode(network.encode(video)), before, atol=1e-4, rtol=1e-4)


def test_the_loss_is_the_error_where_the_code_is_not_noisy():
    network, frames = FrameCodec(3, noise=0.0), fold_frames(clips(1, 2, 16))
    error = network.decoder(torch.tanh(network.encoder(frames))) - frames
    expected = error.abs().sum() / error.numel() + 4 * error.pow(2).sum() / error.numel()
    torch.testing.assert_close(network.reconstruction_loss(frames, torch.Generator()), expected)


def test_noise_in_the_code_is_drawn_from_the_generator():
    network, frames = codec(), fold_frames(clips(1, 2, 16))
    one, same, other = (network.reconstruction_loss(frames, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
