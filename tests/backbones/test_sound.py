"""The codec of sound: time stays time, latents are normalised, and it learns to reconstruct."""

import pytest
import torch

from mmdisco_cli.backbones.audio_codec import SAMPLE_RATE, STRIDE, AudioCodec
from mmdisco_cli.backbones.logmel import HOP, MELS
from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import UsageError

STEP = HOP * STRIDE


def codec(width=16, channels=3):
    torch.manual_seed(0)
    return AudioCodec(channels, width=width)


def noise(batch=2, steps=40, seed=0):
    return 0.1 * torch.randn(batch, 1, steps * STEP, generator=torch.Generator().manual_seed(seed))


def test_shapes_follow_the_plan():
    network = codec()
    plan = network.plan(Request(seconds=0.8))
    assert (plan.latent_shape, plan.media_shape, plan.rate) == ((3, 40), (1, 12800), SAMPLE_RATE)
    with torch.no_grad():
        latent = network.encode(noise())
        assert latent.shape == (2, *plan.latent_shape)
        assert network.decode(latent).shape == (2, *plan.media_shape)


@pytest.mark.parametrize(("requested", "made"), [(1.6, 1.6), (0.809, 0.8), (0.811, 0.82), (0.001, 0.02)])
def test_lengths_are_whole_steps(requested, made):
    assert codec().plan(Request(seconds=requested)).seconds == pytest.approx(made)


def test_a_length_is_needed():
    with pytest.raises(UsageError, match=r"request\.seconds"):
        codec().plan(Request(frames=16))


@torch.no_grad()
def test_later_sound_is_a_later_latent():
    network, sound = codec(), noise(1)
    shifted = torch.roll(sound, 4 * STEP, dims=-1)
    one, other = network.encode(sound), network.encode(shifted)
    # Group norm over the whole clip sees the (few) frames at the ends, which differ: hence the tolerance.
    difference = (other[:, :, 14:-10] - one[:, :, 10:-14]).abs().mean()
    unshifted = (other[:, :, 14:-10] - one[:, :, 14:-10]).abs().mean()
    assert difference < 0.05 * unshifted


@torch.no_grad()
def test_measured_latents_are_normalised():
    network = codec()
    mel = network.expand(network.compact(noise(8)))
    network.measure(mel)
    latent = network.encode(noise(8))
    torch.testing.assert_close(latent.mean((0, 2)), torch.zeros(3), atol=0.02, rtol=0)
    torch.testing.assert_close(latent.std((0, 2)), torch.ones(3), atol=0.02, rtol=0)


def test_compact_items_are_half_as_large_and_nearly_the_same():
    network, sound = codec(), noise()
    compact = network.compact(sound)
    assert compact.dtype == torch.float16
    assert compact.shape == (2, MELS, 80)
    torch.testing.assert_close(network.expand(compact).half(), compact)


def test_it_learns_to_reconstruct():
    network = codec()
    mel = network.expand(network.compact(noise(4, steps=8)))
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for step in range(40):
        loss = network.reconstruction_loss(mel, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_the_loss_is_the_error_where_the_code_is_not_noisy():
    network = AudioCodec(3, noise=0.0, width=16)
    mel = torch.randn(2, MELS, 20, generator=torch.Generator().manual_seed(0))
    error = network.decoder(torch.tanh(network.encoder(mel))) - mel
    expected = error.abs().sum() / error.numel() + 2 * error.pow(2).sum() / error.numel()
    torch.testing.assert_close(network.reconstruction_loss(mel, torch.Generator()), expected)
