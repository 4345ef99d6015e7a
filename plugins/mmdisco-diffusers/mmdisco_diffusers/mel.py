"""Audio to the log-mel spectrograms of AudioLDM and similar models; diffusers has only the inverse.

Parameters of the published configurations: magnitudes (not powers) of a Hann window, Slaney's mel scale with filters of
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
"""Peak below which audio is not scaled: that would only amplify its noise."""


_KNOWN = {
    (16000, 160, 64): (1024, 1024, 512, 0.0, 8000.0),
    (48000, 480, 256): (2048, 2048, 1024, 20.0, 24000.0),
    (16000, 160, 256): (2048, 1024, 944, 0.0, 8000.0),
}
"""AudioLDM and AudioLDM 2, their variant for 48 kHz, and Auffusion, by sample rate, hop and bands."""


@dataclass(frozen=True)
class MelFormat:
    """A mel spectrogram's parameters; `low` and `high` are in Hz, lengths in samples, `margin` is the padding."""

    sample_rate: int
    hop: int
    mels: int
    transform: int
    window: int
    margin: int
    low: float
    high: float


def mel_format(sample_rate: int, hop: int, mels: int) -> MelFormat:
    """Return the mel format that a vocoder was trained with.

    Raises:
        UsageError: no published model has such a vocoder.
    """
    if (sample_rate, hop, mels) not in _KNOWN:
        raise UsageError(f"a vocoder of {sample_rate} Hz, {mels} bands and steps of {hop} samples is not known")
    return MelFormat(sample_rate, hop, mels, *_KNOWN[sample_rate, hop, mels])


def log_mel(audio: Tensor, form: MelFormat) -> Tensor:
    """Return log-mel spectrograms (B, samples // hop, mels) of mono audio (B, samples) in [-1, 1]."""
    frames = audio.shape[-1] // form.hop
    padded = F.pad(audio[:, None], (form.margin, form.margin), mode="reflect")[:, 0]
    window = torch.hann_window(form.window, device=audio.device)
    spectrum = torch.stft(padded, form.transform, form.hop, form.window, window, center=False, return_complex=True)
    magnitudes = spectrum.abs()[..., :frames]
    bands = _filters(form).to(audio.device).T @ magnitudes
    return bands.clamp_min(FLOOR).log().transpose(1, 2)


def to_peak(audio: Tensor, target: float = PEAK) -> Tensor:
    """Return audio (B, samples) without its mean and with this peak; AudioLDM was trained on 0.5."""
    centred = audio - audio.mean(1, keepdim=True)
    peak = centred.abs().amax(1, keepdim=True)
    return torch.where(peak > SILENCE, centred * target / peak.clamp_min(SILENCE), audio)


@lru_cache(maxsize=4)
def _filters(form: MelFormat) -> Tensor:
    """Return the filters (bins, mels)."""
    bins = form.transform // 2 + 1
    filters: Tensor = melscale_fbanks(bins, form.low, form.high, form.mels, form.sample_rate, "slaney", "slaney")
    return filters
