"""Files as small drawings, uint8 (3, H, W): frames above a spectrogram, an image, words, bars."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mmdisco_cli.data.media import MediaInfo, probe, read_audio, read_frames
from mmdisco_cli.kinds.drawing import RATE, spectrogram

GROUND, INK, FAINT = (17, 22, 27), (226, 231, 236), (139, 150, 161)
MARKS = {"seen": (120, 220, 232), "heard": (250, 189, 80)}
"""The colours of marks: of motion, which point up to the frames, and of onsets, which point down to the audio."""
FRAME = 60
"""Height of a frame in pixels, about."""
TICK = 9
SIZE = 13
LINES = 6
"""Lines of a text that are shown."""


def clip_thumbnail(path: Path, width: int, marks: Mapping[str, Sequence[float]] | None = None) -> Tensor:
    """Draw a file with video: its frames, then marks at times in seconds by kind, then the spectrogram of its audio."""
    info = probe(path)
    span = info.span(("video",) if info.audio is None else ("audio", "video"))
    parts = [_strip(info, span.stop, width)]
    if marks:
        parts.append(_ticks(marks, float(span.stop), width))
    if info.audio is not None:
        wave = read_audio(path, 0, span.stop, RATE, info=info, slack=info.audio.start + 1)[0]
        parts.append(_spectrum(wave, width))
    return torch.cat(parts, 1)


def audio_thumbnail(path: Path, width: int) -> Tensor:
    """Draw the spectrogram of a file's audio."""
    info = probe(path)
    span = info.span(("audio",))
    return _spectrum(read_audio(path, span.start, span.stop - span.start, RATE, info=info)[0], width)


def image_thumbnail(path: Path, width: int) -> Tensor:
    """Draw an image half as high as wide or less, its pixels repeated where it is small."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    room = (width, max(1, width // 2))
    times = min(room[0] // image.width, room[1] // image.height)
    if times > 1:
        image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    image.thumbnail(room)
    return on_ground(_pixels(image), width)


def text_thumbnail(text: str, width: int, colour: tuple[int, int, int] = INK, lines: int = LINES) -> Tensor:
    """Draw a text, its lines broken where they do not fit."""
    letters = max(4, int(width / (0.6 * SIZE)))
    shown = [piece for line in text.splitlines() or [""] for piece in textwrap.wrap(line, letters) or [""]]
    shown = [*shown[: lines - 1], f"{shown[lines - 1][: letters - 2]} …"] if len(shown) > lines else shown
    image = Image.new("RGB", (width, round(SIZE * 1.4) * len(shown) + 4), GROUND)
    draw = ImageDraw.Draw(image)
    for place, line in enumerate(shown):
        draw.text((0, round(SIZE * 1.4) * place), line, fill=colour, font=_font())
    return _pixels(image)


def bars_thumbnail(values: Tensor, width: int) -> Tensor:
    """Draw numbers (N,) as bars up and down from the middle."""
    height = 48
    values = values.float().nan_to_num()
    places = torch.arange(width) * len(values) // width
    reach = (values / values.abs().max().clamp(min=1e-9) * (height // 2 - 1)).round()[places]
    rows = (height // 2 - torch.arange(height))[:, None]
    inside = (rows >= reach.clamp(max=0)) & (rows <= reach.clamp(min=0))
    return torch.where(inside[None], _colour(INK), _colour(GROUND)).expand(3, -1, -1)


def on_ground(drawing: Tensor, width: int, height: int | None = None) -> Tensor:
    """Return a drawing (3, H, W) at the upper left of a plain ground of the size."""
    height = height or drawing.shape[1]
    ground = _colour(GROUND).expand(3, height, width).clone()
    ground[:, : drawing.shape[1], : drawing.shape[2]] = drawing[:, :height, :width]
    return ground


def _strip(info: MediaInfo, seconds: Fraction, width: int) -> Tensor:
    """Draw frames side by side, each from where its time begins."""
    shape = float(info.width * info.pixel_aspect / max(1, info.height)) or 1.0
    count = max(4, min(24, round(width / (FRAME * shape))))
    edges = [width * k // count for k in range(count + 1)]
    height = max(8, round(width / count / shape))
    times = [seconds * k / count for k in range(count)]
    frames = read_frames(info, times, height, max(b - a for a, b in pairwise(edges)))
    return torch.cat([frames[k][:, :, : edges[k + 1] - edges[k]] for k in range(count)], 2)


def _ticks(marks: Mapping[str, Sequence[float]], seconds: float, width: int) -> Tensor:
    """Draw marks between frames and audio, those of motion in the upper half and those of onsets in the lower."""
    drawn = _colour(GROUND).expand(3, 2 * TICK, width).clone()
    for half, (kind, colour) in enumerate(MARKS.items()):
        for time in marks.get(kind, ()):
            place = round(width * time / seconds)
            drawn[:, half * TICK + 1 : (half + 1) * TICK - 1, max(0, place - 1) : place + 1] = _colour(colour)
    return drawn


def _spectrum(wave: Tensor, width: int) -> Tensor:
    return spectrogram(wave, max(64, round(width * 0.115)), width).mul(255).round().to(torch.uint8)


def _colour(colour: tuple[int, int, int]) -> Tensor:
    return torch.tensor(colour, dtype=torch.uint8)[:, None, None]


def _pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)


@cache
def _font() -> ImageFont.FreeTypeFont:
    # The one that matplotlib ships: it has far more letters than Pillow's own. Pillow before 10.2 takes no Path.
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), SIZE)
