"""What a kernel distance compares: hand-made statistics of audio and of frames, without any network."""

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torchaudio import functional as AF

SAMPLE_RATE = 16000
N_FFT, HOP, MELS = 1024, 160, 64
LOW, HIGH = 125.0, 7500.0
FLOOR = 1e-3
"""Mel magnitudes below this, 60 dB under a full-scale tone, count as silence: inaudible in so short a clip."""
CELLS = 8
NAMES = ("kd_logmel", "kd_frames", "kd_motion")
DEFINITIONS = {
    "kd_logmel": "mean and standard deviation over time of 64 log-mel bands, 125-7500 Hz at 16 kHz, floor -60 dB",
    "kd_frames": "mean and standard deviation over time of RGB pooled to 8 x 8",
    "kd_motion": "mean and standard deviation over time of |difference| of adjacent frames pooled to 8 x 8",
}


def features_of(video: Tensor, audio: Tensor) -> dict[str, Tensor]:
    """Return every feature vector of a video (3, T, H, W) with audio (C, S) at 16 kHz, by name."""
    return features_from(pooled(video), audio)


def features_from(small: Tensor, audio: Tensor, per_step: Tensor | None = None) -> dict[str, Tensor]:
    """Return the feature vectors of a clip whose frames are pooled already, (T, 3, 8, 8).

    `per_step` (T - 1,) multiplies what changes from frame to frame, where these do not lie one step apart.
    """
    steps = small.diff(dim=0).abs() if len(small) > 1 else torch.zeros_like(small)
    if per_step is not None and len(small) > 1:
        steps = steps * per_step[:, None, None, None]
    return {
        "kd_logmel": _moments(log_mel(audio).T),
        "kd_frames": _moments(small.flatten(1)),
        "kd_motion": _moments(steps.flatten(1)),
    }


def stacked(features: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Return the features of several clips as (N, D) by name."""
    return {name: torch.stack([one[name] for one in features]) for name in NAMES}


def pooled(video: Tensor) -> Tensor:
    """Return frames (T, 3, 8, 8) of the mean colours of a video (3, T, H, W)."""
    return F.adaptive_avg_pool2d(video.transpose(0, 1), CELLS)


def log_mel(audio: Tensor) -> Tensor:
    """Return log10 mel magnitudes (64, frames of 10 ms) of audio (C, S) at 16 kHz, in mono; a full tone is 0."""
    window = torch.hann_window(N_FFT)
    mono = F.pad(audio.mean(0), (0, max(0, N_FFT - audio.shape[1])))
    spectrum = torch.stft(mono, N_FFT, HOP, N_FFT, window, pad_mode="constant", return_complex=True).abs()
    magnitude = 2 * spectrum[:, : max(1, audio.shape[1] // HOP)] / window.sum()
    mel: Tensor = _filters().T @ magnitude
    return mel.clamp_min(FLOOR).log10()


@lru_cache(maxsize=1)
def _filters() -> Tensor:
    filters: Tensor = AF.melscale_fbanks(N_FFT // 2 + 1, LOW, HIGH, MELS, SAMPLE_RATE, norm=None, mel_scale="htk")
    return filters


def _moments(series: Tensor) -> Tensor:
    """Return the mean and the standard deviation over time of (T, D), (2 D,)."""
    return torch.cat([series.mean(0), series.std(0, unbiased=False)])
