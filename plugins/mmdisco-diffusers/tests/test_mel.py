"""Sound to mel: against an independent implementation, and there and back without losing the sound."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchaudio
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import UsageError
from mmdisco_diffusers.mel import log_mel, mel_format, to_peak
from mmdisco_diffusers.mel_codec import MelCodec
from mmdisco_diffusers.reconstruction import log_mel_distance, main, reconstruction

FORM = mel_format(16000, 160, 64)


def sound(seconds=1.0):
    """Return a struck tone, a sweep and noise that fades: (1, 1, samples)."""
    t = torch.arange(round(16000 * seconds)) / 16000
    struck = (2 * torch.pi * 440 * t).sin() * (-6 * t).exp()
    sweep = 0.3 * (2 * torch.pi * (200 * t + 1500 * t**2)).sin()
    noise = torch.randn(len(t), generator=torch.Generator().manual_seed(0)) * 0.05 * (1 - t / seconds)
    return (struck + sweep + noise)[None, None] * 0.5


def test_the_mel_is_the_one_that_others_compute():
    wave = sound()[0, 0].numpy()
    filters = mel_filter_bank(513, 64, 0.0, 8000.0, 16000, norm="slaney", mel_scale="slaney")
    expected = spectrogram(
        wave.astype(np.float64), window_function(1024, "hann"), 1024, 160, 1024, power=1.0, center=True,
        pad_mode="reflect", mel_filters=filters, mel_floor=1e-5, log_mel="log",
    )  # fmt: skip
    found = log_mel(sound()[:, 0], FORM)[0]
    assert found.shape == (100, 64)
    assert np.abs(found.numpy().T - expected[:, :100]).max() < 1e-3


def test_only_vocoders_of_published_models_are_read():
    assert mel_format(48000, 480, 256).window == 2048
    with pytest.raises(UsageError, match="a vocoder of 22050 Hz, 80 bands and steps of 256 samples is not known"):
        mel_format(22050, 256, 80)


def test_sound_is_brought_to_the_trained_peak_but_silence_is_not_raised():
    loud = to_peak(torch.stack([sound()[0, 0] * 0.01 + 0.2, torch.full((16000,), 1e-6)]))
    assert loud[0].abs().max() == pytest.approx(0.5)
    assert loud[0].mean().abs() < 1e-6
    assert loud[1].abs().max() == pytest.approx(1e-6)


class OnlyMel:
    """Parts whose VAE loses nothing and whose vocoder is Griffin and Lim's: what is lost is lost by the codec."""

    def __init__(self, transposed: bool = False):
        self.transposed = transposed

    def config(self, name):
        if name == "vae":
            return {"block_out_channels": (1, 1, 1)}
        return {"sampling_rate": 16000, "upsample_rates": [5, 4, 4, 2], "model_in_dim": 64}

    def get(self, name):
        if name == "vocoder":
            return self.wave
        return SimpleNamespace(config=SimpleNamespace(scaling_factor=0.5), encode=self.encode, decode=self.decode)

    def encode(self, image):
        """Fold 4 x 4 cells of a image (B, 1, T, F) into channels."""
        assert image.shape[2] % 4 == 0
        assert image.shape[3] == 64
        cells = image.unflatten(3, (-1, 4)).unflatten(2, (-1, 4)).permute(0, 1, 3, 5, 2, 4).flatten(1, 3)
        return SimpleNamespace(latent_dist=SimpleNamespace(mode=lambda: cells))

    def decode(self, cells):
        unfolded = cells.unflatten(1, (1, 4, 4)).permute(0, 1, 4, 2, 5, 3).flatten(4, 5).flatten(2, 3)
        return SimpleNamespace(sample=unfolded)

    def wave(self, image):
        image = image.transpose(1, 2)
        if self.transposed:  # AudioLDM's own readers fell for this
            image = image.flip(1)
        image = torch.cat([image, image[..., -1:]], 2)  # the frame on the last sample
        inverse = torchaudio.transforms.InverseMelScale(513, 64, 16000, 0.0, 8000.0, "slaney", "slaney", "gelsd")
        magnitudes = inverse(image.exp()).clamp_min(0)
        window = torch.hann_window(1024)
        samples = (image.shape[2] - 1) * 160
        torch.manual_seed(0)
        return torchaudio.functional.griffinlim(magnitudes, window, 1024, 160, 1024, 1.0, 60, 0.99, samples, False)


@pytest.mark.parametrize("seconds", [1.0, 0.333])
def test_a_sound_comes_back_through_the_codec(seconds):
    codec = MelCodec(OnlyMel(), normalise=False, default_frames=25)
    plan = codec.plan(Request(seconds=seconds), 16)
    samples = round(seconds * 16000)
    assert plan.media_shape == (1, samples)
    assert plan.latent_shape == (16, -(-(samples // 160) // 4), 16)
    wave = sound(seconds)[..., :samples]
    assert log_mel_distance(codec.decode(codec.encode(wave, plan), plan), wave, FORM) < 2.5


def test_what_no_whole_mel_frame_holds_is_heard_by_the_last_one_and_is_silent_again():
    codec = MelCodec(OnlyMel(), normalise=False, default_frames=25)
    plan = codec.plan(Request(frames=1, fps=8), 16)
    assert (plan.latent_shape[1] * 640, plan.media_shape[1]) == (1920, 2000)
    wave = sound(0.125)
    latent = codec.encode(wave, plan)
    assert torch.equal(codec.decode(latent, plan)[..., 1920:], torch.zeros(1, 1, 80))
    image = codec.parts.decode(latent / 0.5 * 0.5).sample[:, 0]
    torch.testing.assert_close(image / 0.5, log_mel(wave[:, 0], FORM), rtol=1e-4, atol=1e-4)


def test_a_mel_upside_down_is_noticed():
    codec = MelCodec(OnlyMel(transposed=True), normalise=False, default_frames=25)
    plan = codec.plan(Request(seconds=1.0), 16)
    assert log_mel_distance(codec.decode(codec.encode(sound(), plan), plan), sound(), FORM) > 5


def test_the_distance_is_in_decibels():
    assert log_mel_distance(sound(), sound(), FORM) == 0
    assert log_mel_distance(sound(), sound() / 10, FORM) == pytest.approx(20.0, abs=0.5)


@pytest.fixture
def clip(tmp_path):
    """Write a clip of one second."""
    from mmdisco_cli.data.media import write_mp4

    return write_mp4(tmp_path / "clip.mp4", torch.zeros(3, 8, 16, 16), sound()[0], 8, 16000)


@pytest.mark.parametrize("family", ["audioldm", "audioldm2", "stable-audio", "longcat", "ltx2"])
def test_a_model_on_disk_is_measured_on_a_clip(family, models, clip, capsys):
    assert main([family, str(models(family)), str(clip), "--seconds", "0.5"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("log-mel distance ")
    assert float(said.split()[2]) > 3  # random weights reconstruct nothing


@pytest.mark.parametrize("family", ["audioldm", "ltx2"])
def test_without_a_length_the_whole_clip_is_measured(family, models, clip, capsys):
    assert main([family, str(models(family)), str(clip)]) == 0
    assert 0.9 < float(capsys.readouterr().out.split()[5]) < 1.1


def test_what_cannot_be_measured_is_said_in_one_line(models, clip, tmp_path, capsys):
    def said(family, path, clip, *options):
        code = main([family, str(path), str(clip), *options])
        out, err = capsys.readouterr()
        assert not out
        assert len(err.splitlines()) == 1
        return code, err

    model = models("audioldm")
    code, err = said("audioldm", model, clip, "--seconds", "5")
    assert (code, "audio covers 0.000-1.0" in err) == (4, True)
    code, err = said("audioldm", model, clip, "--seconds", "0.01")
    assert (code, "0.01 s of audio are too few to measure" in err) == (4, True)
    code, err = said("audioldm", model, tmp_path / "none.mp4")
    assert (code, "none.mp4" in err) == (4, True)
    code, err = said("audioldm", tmp_path / "nowhere" / "at" / "all", clip)
    assert (code, "no such folder" in err) == (4, True)
    code, err = said("audioldm", models("wan"), clip)
    assert (code, "WanPipeline" in err) == (4, True)
    with pytest.raises(SystemExit) as left:
        main(["audioldm", str(model), str(clip), "--seconds", "-1"])
    assert left.value.code == 2


def test_reconstruction_is_what_the_distance_says():
    assert reconstruction(sound(), sound() / 3, 16000) < 1e-4  # loudness is no difference
    codec = MelCodec(OnlyMel(), normalise=False, default_frames=25)
    plan = codec.plan(Request(seconds=1.0), 16)
    again = codec.decode(codec.encode(sound(), plan), plan)
    assert reconstruction(sound(), again, 16000) == pytest.approx(log_mel_distance(again, sound()), abs=0.5)


def test_ltx2_hears_the_mel_that_others_compute(backbone, monkeypatch):
    model = backbone("ltx2")
    plan = model.plan(Request(frames=9, fps=24, height=64, width=64))
    encoded, vae = [], model.parts.get("audio_vae")
    encode = vae.encode
    monkeypatch.setattr(vae, "encode", lambda mel: encoded.append(mel) or encode(mel))
    wave = torchaudio.functional.resample(sound()[..., :6000], 16000, 24000)
    model.encode({"audio": torch.cat([wave, wave / 2], 1)}, plan)
    transform = torchaudio.transforms.MelSpectrogram(
        16000, 1024, 1024, 160, 0.0, 8000.0, n_mels=64, power=1.0, center=True, pad_mode="reflect", norm="slaney",
        mel_scale="slaney",
    )  # fmt: skip
    both = torchaudio.functional.resample(torch.cat([wave, wave / 2], 1), 24000, 16000)
    expected = transform(both).clamp_min(1e-5).log().transpose(2, 3)
    frames = encoded[0].shape[2]
    assert encoded[0].shape == (1, 2, 33, 64)  # nine cells, the first of one frame
    # The last frames look past the end, where the one sees a reflection and the other silence.
    assert (encoded[0][:, :, : frames - 4] - expected[:, :, : frames - 4]).abs().max() < 1e-3
