"""Sound to the log-mel pictures that AudioLDM and its kin were trained on; diffusers has only the way back.

Figures of the published configurations: magnitudes (not powers) of a Hann window, Slaney's mel scale with filters of
equal area, and the natural logarithm above 1e-5.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from mmdisco_cli.errors import UsageError

FLOOR = 1e-5
PEAK = 0.5
SILENCE = 1e-4
"""Peak below which sound is left as it is: bringing it to 0.5 would only raise its noise."""


@dataclass(frozen=True)
class MelFormat:
    """A mel picture's rates, sizes and band in Hz; `window` is both window and transform, in samples."""

    sample_rate: int
    hop: int
    mels: int
    window: int
    low: float
    high: float


def mel_format(sample_rate: int, hop: int, mels: int) -> MelFormat:
    """Return the whole format that a vocoder was trained with.

    Raises:
        UsageError: no published model has such a vocoder.
    """
    known = {(16000, 160, 64): (1024, 0.0, 8000.0), (48000, 480, 256): (2048, 20.0, 24000.0)}
    if (sample_rate, hop, mels) not in known:
        raise UsageError(f"a vocoder of {sample_rate} Hz, {mels} bands and steps of {hop} samples is not known")
    window, low, high = known[sample_rate, hop, mels]
    return MelFormat(sample_rate, hop, mels, window, low, high)


def log_mel(sound: Tensor, form: MelFormat) -> Tensor:
    """Return log-mel pictures (B, samples // hop, mels) of mono sound (B, samples) in [-1, 1]."""
    frames = sound.shape[-1] // form.hop
    padded = F.pad(sound[:, None], (form.window // 2, form.window // 2), mode="reflect")[:, 0]
    window = torch.hann_window(form.window, device=sound.device)
    spectrum = torch.stft(padded, form.window, form.hop, form.window, window, center=False, return_complex=True)
    magnitudes = spectrum.abs()[..., :frames]
    bands = _filters(form).to(sound.device).T @ magnitudes
    return bands.clamp_min(FLOOR).log().transpose(1, 2)


def to_peak(sound: Tensor) -> Tensor:
    """Return sound (B, samples) without its mean and with its peak at 0.5, as these models were trained on it."""
    centred = sound - sound.mean(1, keepdim=True)
    peak = centred.abs().amax(1, keepdim=True)
    return torch.where(peak > SILENCE, centred * PEAK / peak.clamp_min(SILENCE), sound)


@lru_cache(maxsize=4)
def _filters(form: MelFormat) -> Tensor:
    """Return the filters (bins, mels)."""
    bins = form.window // 2 + 1
    filters: Tensor = melscale_fbanks(bins, form.low, form.high, form.mels, form.sample_rate, "slaney", "slaney")
    return filters
