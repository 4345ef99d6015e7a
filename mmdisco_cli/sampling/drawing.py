"""Draw a clip on one time axis for the gallery: a strip of its frames, its waveform, its spectrogram."""

from __future__ import annotations

import base64
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.io import encode_jpeg

from mmdisco_cli.data.media import MediaInfo, probe, read_audio, read_video

FRAMES = 16
THUMB = 48
RATE = 16000
WINDOW, HOP = 512, 64
BARS = 160
QUIET = 0.25  # the waveform fills its height from this peak on; what is quieter looks quieter
FLOOR_DB = 70.0
# Black, violet, red, amber, cream: dark for silence, rising evenly in lightness.
COLOURS = ((0.02, 0.02, 0.08), (0.33, 0.08, 0.46), (0.73, 0.21, 0.33), (0.98, 0.56, 0.15), (0.99, 0.98, 0.75))


def draw_clip(path: Path) -> tuple[str, float]:
    """Return the drawings of a file as HTML, at most some 20 kB, and its length in seconds."""
    info = probe(path)
    seconds = float(info.span(("video",) if info.audio is None else ("audio", "video")).stop)
    parts = [f'<img alt="frames" src="{_film_strip(info, seconds)}">']
    if info.audio is not None:
        sound = read_audio(path, 0, seconds, RATE, info=info, slack=info.audio.start + 1)[0]
        parts += [_waveform(sound), f'<img class="spectrum" alt="spectrogram" src="{_spectrogram(sound)}">']
    return "".join(parts), seconds


def _film_strip(info: MediaInfo, seconds: float) -> str:
    width = max(8, min(2 * THUMB, round(THUMB * info.width / max(1, info.height))))
    video = read_video(info.path, 0, FRAMES, FRAMES / seconds, THUMB, width, info=info)
    strip = video.permute(0, 2, 1, 3).reshape(3, THUMB, -1)
    return _jpeg(strip.add(1).div(2), quality=80)


def _waveform(sound: Tensor) -> str:
    """Draw the range between least and greatest sample of each of 160 stretches as one SVG path."""
    sound = sound / max(float(sound.abs().max()), QUIET)
    size = max(1, -(-sound.shape[0] // BARS))
    rows = torch.nn.functional.pad(sound, (0, size * BARS - sound.shape[0])).reshape(BARS, size)
    lines = (
        f"M{index} {50 - 48 * high:.0f}V{50.6 - 48 * low:.1f}"
        for index, (low, high) in enumerate(zip(rows.amin(1).tolist(), rows.amax(1).tolist(), strict=True))
    )
    return (
        f'<svg viewBox="-.5 0 {BARS} 100" preserveAspectRatio="none" aria-label="waveform" role="img">'
        f'<path d="{"".join(lines)}" stroke="currentColor" stroke-width=".7" fill="none"/></svg>'
    )


def _spectrogram(sound: Tensor) -> str:
    """Draw level in dB over time and log frequency, 80 Hz to 8 kHz."""
    spectrum = torch.stft(sound, WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True).abs()
    level = 20 * torch.log10(spectrum.clamp(min=1e-6))
    rows = torch.logspace(1, 0, 64).sub(1).div(9).mul(0.99).add(0.01).mul(level.shape[0] - 1)
    level = interpolate(level[rows.round().long()][None, None], (96, 400), mode="bilinear")[0, 0]
    bright = ((level - level.max()) / FLOOR_DB + 1).clamp(0, 1) if float(level.max()) > -60 else torch.zeros_like(level)
    return _jpeg(_coloured(bright), quality=75)


def _coloured(bright: Tensor) -> Tensor:
    stops = torch.tensor(COLOURS)
    position = bright * (len(COLOURS) - 1)
    low = position.long().clamp(max=len(COLOURS) - 2)
    mix = (position - low)[..., None]
    return (stops[low] * (1 - mix) + stops[low + 1] * mix).permute(2, 0, 1)


def _jpeg(picture: Tensor, quality: int) -> str:
    data = encode_jpeg(picture.clamp(0, 1).mul(255).round().to(torch.uint8).contiguous(), quality)
    return "data:image/jpeg;base64," + base64.b64encode(data.numpy().tobytes()).decode()
