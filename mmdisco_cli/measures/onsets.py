"""Onsets of audio as librosa's defaults find them, by which AV-Align is defined; librosa itself is not needed."""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torchaudio import functional as AF

ONSET_RATE = 22050
N_FFT, HOP, MELS = 2048, 512, 128
DELTA = 0.07
RANGE_DB = 80.0


@dataclass(frozen=True)
class Reach:
    """How many frames around one its greatest value and its mean are taken over, and how many a peak makes skip."""

    before: int
    mean_before: int
    mean_after: int
    wait: int


def reach_at(rate: int) -> Reach:
    """Return librosa's windows of 30 and 100 ms in frames at a sample rate."""
    return Reach(int(0.03 * rate) // HOP, int(0.1 * rate) // HOP, int(0.1 * rate) // HOP + 1, int(0.03 * rate) // HOP)


def onset_envelope(audio: Tensor, rate: int) -> Tensor:
    """Return how much louder each frame of mono audio (S,) is than the last, in dB a mel band, (1 + S // 512,)."""
    window = torch.hann_window(N_FFT)
    spectrum = torch.stft(audio, N_FFT, HOP, N_FFT, window, center=True, pad_mode="constant", return_complex=True)
    level = 10 * (_filters(rate).T @ spectrum.abs().square()).clamp_min(1e-10).log10()
    level = level.clamp_min(float(level.max()) - RANGE_DB)
    rise = level.diff(dim=1).clamp_min(0).mean(0)
    # A rise lies a frame after what it is compared with, and shows half a window before its middle.
    late = 1 + N_FFT // (2 * HOP)
    return F.pad(rise, (late, 0))[: level.shape[1]]


def onset_times(envelope: Tensor, rate: int) -> list[float]:
    """Return the times in seconds of the peaks of an onset envelope (F,)."""
    if not bool(envelope.any()):
        return []
    curve = envelope - envelope.min()
    curve = curve / (curve.max() + torch.finfo(curve.dtype).tiny)
    return [frame * HOP / rate for frame in _peaks(curve, reach_at(rate))]


def _peaks(curve: Tensor, reach: Reach) -> list[int]:
    """Return frames that exceed the mean around them by 0.07 and are the greatest of those just before them."""
    found, frame = [], 0
    while frame < len(curve):
        greatest = curve[max(0, frame - reach.before) : frame + 1].max()
        mean = curve[max(0, frame - reach.mean_before) : frame + reach.mean_after].mean()
        if bool(curve[frame] == greatest) and bool(curve[frame] >= mean + DELTA):
            found.append(frame)
            frame += reach.wait
        frame += 1
    return found


@lru_cache(maxsize=8)
def _filters(rate: int) -> Tensor:
    filters: Tensor = AF.melscale_fbanks(N_FFT // 2 + 1, 0.0, rate / 2, MELS, rate, norm="slaney", mel_scale="slaney")
    return filters
