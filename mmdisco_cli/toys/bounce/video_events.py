"""Detector of impacts in the video of bouncing balls: when each ball strikes the floor, its size and its material.

Only pixels are used, so that real, generated and re-encoded clips are read alike.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdisco_cli.toys.bounce.events import Impact
from mmdisco_cli.toys.bounce.render import FPS, GLOW, GLOW_SECONDS, HUES
from mmdisco_cli.toys.bounce.scene import FLOOR, SIZE

LEAST_AREA = 4.0
"""Pixels in the median frame below which a lane holds no ball: the smallest one covers 78."""
LEAST_GLOW = 0.22
"""Share of a fresh impact's light that counts as one; an impact 100 ms before its first frame shows 0.43."""


def impacts_in_video(video: Tensor, lanes: int) -> list[Impact]:
    """Return the floor contacts that a clip (3, T, H, W) in [-1, 1] shows, in order of time.

    A struck floor lights up and fades with a known time constant, so the light that one frame adds to the last tells
    how long before it the impact was.
    """
    frames = _native(video)
    ground = _ground_level(frames)
    events = [event for lane in range(lanes) for event in _lane_impacts(frames, ground, lane, lanes)]
    return sorted(events, key=lambda event: event.time)


def balls_in_video(video: Tensor, lanes: int) -> list[tuple[float, int]]:
    """Return (size, material) of each ball that a clip (3, T, H, W) shows, size as log2 of the radius in pixels."""
    frames = _native(video)
    found = (_lane_ball(frames, lane, lanes) for lane in range(lanes))
    return [(ball.size, ball.material) for ball in found if ball is not None]


@dataclass(frozen=True)
class _LaneBall:
    """What one lane shows: the columns that it spans, where the ball is (T, H, W), its size and its material."""

    left: int
    right: int
    mask: Tensor
    size: float
    material: int


def _native(video: Tensor) -> Tensor:
    """Return frames (T, 3, 64, 64) in [0, 1]."""
    frames = (video.transpose(0, 1) + 1) / 2
    return F.interpolate(frames, (SIZE, SIZE), mode="area") if frames.shape[-2:] != (SIZE, SIZE) else frames


def _ground_level(frames: Tensor) -> Tensor:
    """Return the unlit floor's brightness: most of the strip is dark most of the time."""
    return _strip(frames).flatten().quantile(0.25)


def _strip(frames: Tensor) -> Tensor:
    return frames[:, :, int(FLOOR) + 1 :].mean((1, 2))


def _lane_ball(frames: Tensor, lane: int, lanes: int) -> _LaneBall | None:
    """Return the ball in a lane of frames (T, 3, 64, 64), None where most frames show none."""
    left, right = round(SIZE * lane / lanes), round(SIZE * (lane + 1) / lanes)
    mask, hue = _ball_mask(frames[:, :, : int(FLOOR), left:right])
    area = float(mask.sum((1, 2)).median())
    if area < LEAST_AREA:
        return None
    return _LaneBall(left, right, mask, math.log2(math.sqrt(area / math.pi)), _material(mask, hue))


def _lane_impacts(frames: Tensor, ground: Tensor, lane: int, lanes: int) -> list[Impact]:
    ball = _lane_ball(frames, lane, lanes)
    if ball is None:
        return []
    columns = torch.arange(ball.left, ball.right) + 0.5
    centre = (ball.mask.sum(1) * columns).sum(1) / ball.mask.sum((1, 2)).clamp_min(1e-6)
    light = _light_under(_strip(frames)[:, ball.left : ball.right], columns, centre) - ground
    return [Impact(time, ball.size, ball.material) for time in _fresh_light(light)]


def _ball_mask(pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Return where a saturated colour covers the pixel, (T, H, W) in [0, 1], and the hue angle in radians."""
    high, low = pixels.amax(1), pixels.amin(1)
    chroma = high - low
    red, green, blue = pixels.unbind(1)
    hue = torch.atan2(math.sqrt(3) * (green - blue), 2 * red - green - blue)
    return ((chroma - 0.2) / 0.25).clamp(0, 1), hue


def _material(mask: Tensor, hue: Tensor) -> int:
    x, y = float((mask * hue.cos()).sum()), float((mask * hue.sin()).sum())
    angle = math.degrees(math.atan2(y, x))
    distances = [abs((angle - centre + 180) % 360 - 180) for centre in HUES]
    return distances.index(min(distances))


def _light_under(strip: Tensor, columns: Tensor, centre: Tensor) -> Tensor:
    """Return the floor's brightness (T,) within 3 pixels of the ball's own column."""
    near = ((columns[None] - centre[:, None]).abs() <= 3).float()
    return (strip * near).sum(1) / near.sum(1).clamp_min(1)


def _fresh_light(light: Tensor) -> list[float]:
    fade = math.exp(-1 / (FPS * GLOW_SECONDS))
    full = 0.94 * GLOW  # the mean of the glow's profile over the 7 columns read
    times = []
    for k in range(1, len(light)):
        added = float(light[k] - light[k - 1].clamp_min(0) * fade) / full
        if added > LEAST_GLOW:
            before = min(max(-GLOW_SECONDS * math.log(min(added, 1.0)), 0.0), 1 / FPS)
            times.append(k / FPS - before)
    return times
