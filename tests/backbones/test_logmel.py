"""Log-mel spectrograms: what survives the way to a spectrogram and back to audio."""

import math

import pytest
import torch

from mmdisco_cli.backbones.logmel import CENTRE, FLOOR, HOP, MELS, SCALE, decode_logmel, encode_logmel

RATE = 16000
SILENCE = (math.log(FLOOR) - CENTRE) / SCALE


def tone(frequency, start=0.0, seconds=1.0, amplitude=0.5):
    t = torch.arange(round(seconds * RATE)) / RATE
    sounding = (t >= start).float()
    return (amplitude * sounding * torch.sin(2 * math.pi * frequency * (t - start)))[None, None]


def loudest_frequency(sound):
    spectrum = torch.fft.rfft(sound * torch.hann_window(len(sound)), n=1 << 17).abs()
    return float(spectrum.argmax()) * RATE / (1 << 17)


def onset(sound, window=80):
    level = sound[: len(sound) // window * window].view(-1, window).square().mean(1).sqrt()
    return float(torch.nonzero(level > 0.5 * level.max())[0, 0]) * window / RATE


@pytest.mark.parametrize("frequency", [440.0, 1000.0, 1600.0])
def test_the_round_trip_keeps_pitch(frequency):
    sound = decode_logmel(encode_logmel(tone(frequency), RATE), RATE)[0, 0]
    # Mel bands are the limit: near 1 kHz they are about 100 Hz wide.
    assert loudest_frequency(sound[4000:12000]) == pytest.approx(frequency, rel=0.05)


@pytest.mark.parametrize("start", [0.2, 0.555])
def test_the_round_trip_keeps_the_onset(start):
    sound = decode_logmel(encode_logmel(tone(800.0, start), RATE), RATE)[0, 0]
    assert onset(sound) == pytest.approx(start, abs=0.015)
    assert float(sound[: round((start - 0.04) * RATE)].abs().max()) < 0.02


def test_the_round_trip_keeps_loudness():
    sound = decode_logmel(encode_logmel(tone(800.0), RATE), RATE)[0, 0, 4000:12000]
    assert 20 * math.log10(float(sound.square().mean().sqrt()) / (0.5 / math.sqrt(2))) == pytest.approx(0, abs=2)


def test_silence_is_the_floor_and_comes_back_as_silence():
    mel = encode_logmel(torch.zeros(2, 1, RATE), RATE)
    torch.testing.assert_close(mel, torch.full((2, MELS, RATE // HOP), SILENCE))
    assert float(decode_logmel(mel, RATE).abs().max()) < 1e-4


def test_what_is_below_the_floor_is_silence():
    torch.testing.assert_close(encode_logmel(tone(800.0, amplitude=1e-5), RATE), torch.full((1, MELS, 100), SILENCE))


def test_doubling_the_sound_adds_log_two():
    quiet, loud = (encode_logmel(tone(800.0, amplitude=a), RATE) for a in (0.2, 0.4))
    audible = quiet > SILENCE + 0.01
    assert audible.any()
    torch.testing.assert_close((loud - quiet)[audible], torch.full_like(quiet[audible], math.log(2) / SCALE))


def test_a_tone_lights_the_band_of_its_frequency():
    def band_centre(k):  # HTK's mel scale, written out
        low, high = (2595 * math.log10(1 + f / 700) for f in (150.0, 8000.0))
        return 700 * (10 ** ((low + (high - low) * (k + 1) / (MELS + 1)) / 2595) - 1)

    for frequency in (500.0, 2000.0, 6000.0):
        band = int(encode_logmel(tone(frequency), RATE)[0, :, 50].argmax())
        nearest = min(range(MELS), key=lambda k: abs(band_centre(k) - frequency))
        assert abs(band - nearest) <= 1


def test_the_same_spectrogram_always_gives_the_same_audio():
    mel = torch.randn(1, MELS, 20, generator=torch.Generator().manual_seed(0))
    assert torch.equal(decode_logmel(mel, RATE), decode_logmel(mel, RATE))
    assert decode_logmel(mel, RATE).shape == (1, 1, 20 * HOP)


def test_an_extreme_spectrogram_stays_within_full_scale():
    sound = decode_logmel(torch.full((1, MELS, 20), 50.0), RATE)
    assert torch.isfinite(sound).all()
    assert float(sound.abs().max()) <= 1
