"""Audio to log-mel magnitudes, and back to a waveform by Griffin-Lim."""

from functools import lru_cache

import torch
from torch import Tensor
from torchaudio import functional as AF

N_FFT, WINDOW, HOP = 1024, 512, 160
MELS, LOW, HIGH = 64, 150.0, 8000.0
FLOOR = 0.03
"""Mel magnitudes below this count as silence: about 75 dB under a full-scale tone."""
CENTRE, SCALE = -2.5, 1.6
"""Offset and scale that bring log-mel magnitudes to about zero mean and unit variance, measured on `bounce`."""


def encode_logmel(audio: Tensor, sample_rate: int) -> Tensor:
    """Return the normalised log-mel magnitudes (B, 64, samples // 160) of mono audio (B, 1, samples)."""
    spectrum = _stft(audio[:, 0]).abs()[..., : audio.shape[-1] // HOP]
    mel = _filters(sample_rate).T @ spectrum
    return (mel.clamp_min(FLOOR).log() - CENTRE) / SCALE


def decode_logmel(latent: Tensor, sample_rate: int, iterations: int = 32) -> Tensor:
    """Return audio (B, 1, frames * 160) for normalised log-mel magnitudes (B, 64, frames).

    Magnitudes come from a non-negative least-squares fit (multiplicative updates: Lee & Seung, 2001), phases from
    Griffin-Lim with momentum 0.99 (Perraudin et al., 2013), begun from phase zero so that the same latent always gives
    the same audio.
    """
    mel = (latent.float() * SCALE + CENTRE).clamp(max=5.0).exp()
    mel = (mel - FLOOR).clamp_min(0)
    mel = torch.cat([mel, mel[..., -1:]], dim=-1)
    spectrum = _unmel(mel, _filters(sample_rate))
    window = torch.hann_window(WINDOW)
    samples = latent.shape[-1] * HOP
    audio = AF.griffinlim(spectrum, window, N_FFT, HOP, WINDOW, 1.0, iterations, 0.99, samples, False)
    clipped: Tensor = audio[:, None].clamp(-1, 1)
    return clipped


def _stft(audio: Tensor) -> Tensor:
    window = torch.hann_window(WINDOW)
    return torch.stft(audio, N_FFT, HOP, WINDOW, window, pad_mode="constant", return_complex=True)


@lru_cache(maxsize=4)
def _filters(sample_rate: int) -> Tensor:
    """Return the triangular mel filters (bins, 64)."""
    high = min(HIGH, sample_rate / 2)
    filters: Tensor = AF.melscale_fbanks(N_FFT // 2 + 1, LOW, high, MELS, sample_rate, norm=None, mel_scale="htk")
    return filters


def _unmel(mel: Tensor, filters: Tensor, updates: int = 40) -> Tensor:
    spectrum = filters @ (mel / filters.sum(0)[:, None].clamp_min(1e-8))
    target = filters @ mel
    for _ in range(updates):
        spectrum = spectrum * target / (filters @ (filters.T @ spectrum)).clamp_min(1e-8)
    return spectrum
