"""Detector of impacts in the audio of bouncing balls: when each strike begins, its pitch and its material.

Only the waveform is used. Onsets are rises of the log-mel spectrum; kind is the nearest of a grid of synthesised
strikes.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torchaudio import functional as AF

from mmdisco_cli.toys.bounce.events import Impact
from mmdisco_cli.toys.bounce.render import SAMPLE_RATE, strike_sound
from mmdisco_cli.toys.bounce.scene import MATERIALS, RADIUS, pitch

HOP = 80
WINDOW = 256
FLOOR = 1e-2
"""Mel magnitudes below this share of the loudest one are silence (-40 dB)."""
LEAST_RISE = 0.3
"""Mean rise over the mel bands, in units of log10 magnitude, that counts as an onset."""
LEAST_GAP = 0.06
LAG = 3
PITCHES = 97


def impacts_in_audio(audio: Tensor) -> list[Impact]:
    """Return the strikes in mono audio (samples,) at 16 kHz, in order of time."""
    times = strike_times(audio)
    ends = [*times, len(audio) / SAMPLE_RATE][1:]
    return [Impact(t, *_kind(audio, t, end)) for t, end in zip(times, ends, strict=True)]


def strike_times(audio: Tensor) -> list[float]:
    """Return the times in seconds at which something is struck."""
    mel = _mel(audio)
    log = mel.clamp_min(FLOOR * float(mel.max().clamp_min(1e-3))).log10()
    rise = F.pad((log[:, LAG:] - log[:, :-LAG]).clamp_min(0).mean(0), (LAG, 0))
    radius = round(LEAST_GAP * SAMPLE_RATE / HOP)
    peak = F.max_pool1d(rise[None, None], 2 * radius + 1, 1, radius)[0, 0]
    # The last windows reach past the end, where a tone that is cut off would sound like a click.
    whole = torch.arange(len(rise)) * HOP + WINDOW // 2 <= len(audio)
    frames = torch.nonzero((rise == peak) & (rise > LEAST_RISE) & whole)[:, 0]
    # The rise peaks when the window has just taken in the attack, LAG frames after the last silent one.
    return [max((float(f) - LAG / 2) * HOP / SAMPLE_RATE, 0.0) for f in frames]


def _mel(audio: Tensor) -> Tensor:
    spectrum = torch.stft(audio, 512, HOP, WINDOW, torch.hann_window(WINDOW), pad_mode="constant", return_complex=True)
    return _filters().T @ spectrum.abs()


@lru_cache(maxsize=1)
def _filters() -> Tensor:
    filters: Tensor = AF.melscale_fbanks(257, 150.0, 8000.0, 40, SAMPLE_RATE, norm=None, mel_scale="htk")
    return filters


def _kind(audio: Tensor, time: float, end: float) -> tuple[float, int]:
    """Return log2 of the pitch in Hz and the material of the best-fitting template; what rang before is subtracted."""
    start = round((time + 0.01) * SAMPLE_RATE)
    fresh = _spectrogram(audio[start:], min(end - time, 0.16))
    before = _spectrogram(audio[max(start - 800, 0) : max(start - 200, 0)], 0.03).amax(1, keepdim=True)
    patch = (fresh - before).clamp_min(0)
    names, bank = _templates()
    bank = bank[:, :, : patch.shape[1]]
    score = torch.einsum("kft,ft->k", bank, patch) / bank.square().sum((1, 2)).sqrt().clamp_min(1e-8)
    return names[int(score.argmax())]


def _spectrogram(audio: Tensor, seconds: float) -> Tensor:
    """Return compressed magnitudes (513, frames) of up to `seconds`, one frame each 20 ms."""
    frames = max(min(round(seconds / 0.02), len(audio) // 320), 1)
    padded = F.pad(audio, (0, 1024))
    pieces = torch.stack([padded[320 * k : 320 * k + 1024] for k in range(frames)])
    magnitudes: Tensor = torch.fft.rfft(pieces * torch.hann_window(1024)).abs()
    return magnitudes.sqrt().T


@lru_cache(maxsize=1)
def _templates() -> tuple[list[tuple[float, int]], Tensor]:
    low, high = math.log2(pitch(RADIUS[1])), math.log2(pitch(RADIUS[0]))
    generator = torch.Generator().manual_seed(0)
    names, bank = [], []
    for material in range(len(MATERIALS)):
        for k in range(PITCHES):
            log_pitch = low + (high - low) * k / (PITCHES - 1)
            names.append((log_pitch, material))
            bank.append(_spectrogram(strike_sound(material, 2**log_pitch, 4000, generator)[160:], 0.16))
    return names, torch.stack(bank)
