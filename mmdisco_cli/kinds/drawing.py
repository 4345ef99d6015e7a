"""Draw a clip on one time axis: a strip of its frames, marks of its events, its waveform, its spectrogram."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from html import escape
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.io import encode_jpeg

from mmdisco_cli.data.media import MediaInfo, probe, read_audio, read_frames
from mmdisco_cli.data.naming import UNUSABLE, file_errors

FRAMES = 16
THUMB, POSTER = 48, 192
RATE = 16000
WINDOW, HOP = 512, 64
BARS = 160
QUIET = 0.25  # the waveform fills its height from this peak on; what is quieter looks quieter
FLOOR_DB = 70.0
# Black, violet, red, amber, cream: dark for silence, rising evenly in lightness.
COLOURS = ((0.02, 0.02, 0.08), (0.33, 0.08, 0.46), (0.73, 0.21, 0.33), (0.98, 0.56, 0.15), (0.99, 0.98, 0.75))


@dataclass(frozen=True)
class Drawn:
    """The drawings of a clip as HTML, its length in seconds, and a frame of it as a data: address."""

    html: str
    seconds: float
    poster: str


def video_html(path: Path, source: str, marks: Mapping[str, Sequence[float]] | None = None, label: str = "") -> str:
    """Return a player of a file with video above its drawings, or above what is wrong with it.

    `source` is the address that the player loads, escaped; `marks` are those of `draw_clip`, and `label` is what the
    video is called where it cannot be seen, escaped.
    """
    try:
        with file_errors(path):
            drawn = draw_clip(path, marks)
        poster, below = f' poster="{drawn.poster}"', _time_html(drawn)
    except UNUSABLE as error:
        poster, below = "", _trouble_html(error)
    named = f' aria-label="{label}"' if label else ""
    player = f'<video src="{source}" controls loop playsinline preload="metadata"{poster}{named}></video>'
    return f'<div class="clip">{player}{below}</div>'


def audio_html(path: Path, source: str) -> str:
    """Return a player of audio alone above its drawings, or above what is wrong with it; `source` as for video."""
    try:
        with file_errors(path):
            below = _time_html(draw_audio(path))
    except UNUSABLE as error:
        below = _trouble_html(error)
    return f'<div class="clip"><audio src="{source}" controls loop preload="metadata"></audio>{below}</div>'


def _time_html(drawn: Drawn) -> str:
    return f'<div class="time" data-seconds="{drawn.seconds:.4f}">{drawn.html}<span class="head"></span></div>'


def _trouble_html(error: Exception) -> str:
    return f'<p class="prompt">{escape(str(error))}</p>'


def draw_audio(path: Path) -> Drawn:
    """Return the drawings of a file's audio alone; there is no frame of it."""
    info = probe(path)
    span = info.span(("audio",))
    length = span.stop - span.start
    wave = read_audio(path, span.start, length, RATE, info=info)[0]
    return Drawn(_audio_drawings(wave), float(length), "")


def draw_clip(path: Path, marks: Mapping[str, Sequence[float]] | None = None) -> Drawn:
    """Return the drawings of a file, at most some 25 kB.

    `marks` are times in seconds by kind: `seen` (motion) points up to the frames, `heard` (onsets) down to the audio.
    """
    info = probe(path)
    seconds = float(info.span(("video",) if info.audio is None else ("audio", "video")).stop)
    frames = read_frames(info, [Fraction(seconds) * k / FRAMES for k in range(FRAMES)], *_size(info, POSTER))
    parts = [
        f'<img class="strip" alt="frames in order of time" src="{_strip(frames, info)}">',
        _marks(marks or {}, seconds),
    ]
    if info.audio is not None:
        wave = read_audio(path, 0, seconds, RATE, info=info, slack=info.audio.start + 1)[0]
        parts.append(_audio_drawings(wave))
    return Drawn("".join(parts), seconds, _jpeg(frames[FRAMES // 3].float().div(255), quality=70))


def _audio_drawings(wave: Tensor) -> str:
    return f'{_waveform(wave)}<img class="spectrum" alt="spectrogram, 80 Hz to 8 kHz" src="{_spectrogram(wave)}">'


def _marks(marks: Mapping[str, Sequence[float]], seconds: float) -> str:
    shown = {kind: [time for time in times if 0 <= time <= seconds] for kind, times in marks.items()}
    points = "".join(
        f'<i class="{kind}" style="left:{100 * time / seconds:.2f}%" title="{kind} at {time:.3f} s"></i>'
        for kind, times in shown.items()
        for time in times
    )
    said = "; ".join(
        f"{kind} at {', '.join(f'{time:.2f}' for time in times)} s" for kind, times in shown.items() if times
    )
    return f'<div class="marks" role="img" aria-label="{said}">{points}</div>' if points else ""


def _size(info: MediaInfo, height: int) -> tuple[int, int]:
    return height, max(8, min(2 * height, round(height * info.width / max(1, info.height))))


def _strip(frames: Tensor, info: MediaInfo) -> str:
    small = interpolate(frames.float(), _size(info, THUMB), mode="area").div(255)
    return _jpeg(small.permute(1, 2, 0, 3).reshape(3, THUMB, -1), quality=80)


def _waveform(wave: Tensor) -> str:
    """Draw the range between least and greatest sample of each of 160 stretches as one SVG path."""
    wave = wave / max(float(wave.abs().max()), QUIET)
    size = max(1, -(-wave.shape[0] // BARS))
    rows = torch.nn.functional.pad(wave, (0, size * BARS - wave.shape[0])).reshape(BARS, size)
    lines = (
        f"M{index} {50 - 48 * high:.0f}V{50.6 - 48 * low:.1f}"
        for index, (low, high) in enumerate(zip(rows.amin(1).tolist(), rows.amax(1).tolist(), strict=True))
    )
    return (
        f'<svg viewBox="-.5 0 {BARS} 100" preserveAspectRatio="none" aria-label="waveform" role="img">'
        f'<path d="{"".join(lines)}" stroke="currentColor" stroke-width=".7" fill="none"/></svg>'
    )


def _spectrogram(wave: Tensor) -> str:
    return _jpeg(spectrogram(wave, 96, 400), quality=75)


def spectrogram(wave: Tensor, height: int, width: int) -> Tensor:
    """Return the level of audio (S,) at `RATE` over time and log frequency, 80 Hz to 8 kHz, as (3, H, W) in [0, 1]."""
    spectrum = torch.stft(wave, WINDOW, HOP, window=torch.hann_window(WINDOW), return_complex=True).abs()
    level = 20 * torch.log10(spectrum.clamp(min=1e-6))
    rows = torch.logspace(1, 0, 64).sub(1).div(9).mul(0.99).add(0.01).mul(level.shape[0] - 1)
    level = interpolate(level[rows.round().long()][None, None], (height, width), mode="bilinear")[0, 0]
    bright = ((level - level.max()) / FLOOR_DB + 1).clamp(0, 1) if float(level.max()) > -60 else torch.zeros_like(level)
    return _coloured(bright)


def _coloured(bright: Tensor) -> Tensor:
    stops = torch.tensor(COLOURS)
    position = bright * (len(COLOURS) - 1)
    low = position.long().clamp(max=len(COLOURS) - 2)
    mix = (position - low)[..., None]
    return (stops[low] * (1 - mix) + stops[low + 1] * mix).permute(2, 0, 1)


def _jpeg(image: Tensor, quality: int) -> str:
    data = encode_jpeg(image.clamp(0, 1).mul(255).round().to(torch.uint8).contiguous(), quality)
    return "data:image/jpeg;base64," + base64.b64encode(data.numpy().tobytes()).decode()
