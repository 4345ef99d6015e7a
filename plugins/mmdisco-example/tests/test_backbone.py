"""The theremin and the hand keep the contract of base models, predict what is known of them, and invert themselves."""

import pytest
import torch

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.diffusion.schedules import cosine
from mmdisco_cli.testing import check_backbone
from mmdisco_example import HandOptions, ThereminOptions, backbone, hand
from mmdisco_example.backbone import analysed, epsilon_of, mean_of

THEREMIN, HAND = ThereminOptions(), HandOptions()


def test_the_theremin_keeps_the_contract():
    check_backbone(backbone.build("audio", THEREMIN, Request()), Request(seconds=1.6), ["high notes", "low notes"])


def test_the_hand_keeps_the_contract():
    request = Request(seconds=1.6, height=32, width=48)
    check_backbone(hand.build("video", HAND, request), request, ["high notes", "low notes"])


@pytest.mark.parametrize("request_", [Request(), Request(seconds=0.1), Request(frames=3, fps=24.0, seconds=0.3)])
def test_both_make_the_same_length_of_a_request(request_):
    decoded, seen = (one.plan(request_) for one in (backbone.Theremin(THEREMIN), hand.Hand(HAND)))
    assert decoded.seconds == seen.seconds
    assert decoded.latent_shape[1] == seen.latent_shape[1]


def test_the_hand_notes_a_rate_that_it_cannot_make():
    assert hand.Hand(HAND).plan(Request(fps=24.0)).notes == ("video: 10 frames a second, not 24",)
    assert hand.Hand(HAND).plan(Request(fps=10.0)).notes == ()


def test_other_options_are_another_model():
    assert backbone.Theremin(THEREMIN).fingerprint != backbone.Theremin(ThereminOptions(pitch=220.0)).fingerprint
    assert hand.Hand(HAND).fingerprint != hand.Hand(HandOptions(radius=0.2)).fingerprint


@pytest.mark.parametrize("prompt", ["", "high notes", "low notes", "a voice"])
def test_the_prediction_is_the_score_of_the_noisy_clips(prompt):
    x = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    t = torch.tensor([0.05, 0.5, 0.95])
    _, alpha, sigma = (level[:, None] for level in cosine().levels_at(t))
    means = [mean_of(prompt)] if mean_of(prompt) else [1.0, -1.0]
    # Of alpha * N(mean, 1) + sigma * N(0, 1), whose variance is 1, whatever the level.
    kinds = torch.stack([-(x[:, 0] - alpha * mean).square().sum(1) / 2 for mean in means])
    (score,) = torch.autograd.grad((kinds.logsumexp(0) - x[:, 1].square().sum(1) / 2).sum(), x)
    condition = backbone.condition_of([prompt] * 3, None).positive
    expected = -sigma[..., None] * score
    assert torch.allclose(epsilon_of(x.detach(), t, condition), expected, atol=1e-5)
    if not mean_of(prompt):
        assert torch.allclose(epsilon_of(x.detach(), t, None), expected, atol=1e-5)


def test_what_the_theremin_plays_is_what_it_hears():
    theremin = backbone.Theremin(THEREMIN)
    plan = theremin.plan(Request(seconds=2.0))
    played = torch.randn(8, 2, 20, generator=torch.Generator().manual_seed(0))
    decoded = theremin.encode(theremin.decode(played, plan), plan)
    # A tenth of a second resolves pitch to 5 Hz, and loudness to a few per cent.
    assert (decoded - played).abs().max() < 0.2


def test_the_pitch_of_a_known_tone_is_heard():
    seconds = torch.arange(16000) / 16000
    pitch, loudness = analysed(0.5 * torch.sin(2 * torch.pi * 440 * seconds)[None, None])
    assert pitch.shape == loudness.shape == (1, 10)
    assert torch.allclose(pitch, torch.full((1, 10), 440.0), atol=10.1)
    assert torch.allclose(loudness, torch.full((1, 10), 0.5), atol=0.01)


def test_where_the_hand_is_shown_is_where_it_is_found():
    seen = hand.Hand(HAND)
    plan = seen.plan(Request(frames=20))
    places = torch.randn(8, 2, 20, 1, 1, generator=torch.Generator().manual_seed(0))
    assert (seen.encode(seen.decode(places, plan), plan) - places).abs().max() < 0.1


def test_a_high_loud_note_is_to_the_right_and_above():
    seen = hand.Hand(HAND)
    frame = seen.decode(torch.tensor([1.0, 1.0]).view(1, 2, 1, 1, 1), seen.plan(Request(frames=1)))[0, 0, 0]
    row, column = divmod(int(frame.argmax()), frame.shape[1])
    assert row < frame.shape[0] / 2 < column
