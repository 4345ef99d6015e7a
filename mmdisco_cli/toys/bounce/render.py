"""What a bounce scene looks like and sounds like, drawn analytically: 16 frames at 10 per second, 1.6 s at 16 kHz."""

import colorsys
import math

import torch
from torch import Tensor

from mmdisco_cli.toys.bounce.scene import FLOOR, SECONDS, SIZE, Ball, Scene, pitch

FPS = 10
FRAMES = 16
SAMPLE_RATE = 16000
GLOW_SECONDS = 0.12
"""Time constant with which the light of a struck floor fades: a frame shows how long ago the impact was."""
GLOW_WIDTH = 5.0
GLOW = 0.6
HUES = (30.0, 215.0, 130.0)
"""Hue in degrees of wood, metal and glass."""
# (frequency ratio, amplitude, decay in seconds) of every partial, and the level of the contact noise.
PARTIALS = (
    ((1.0, 1.0, 0.050), (2.0, 0.25, 0.030)),
    ((1.0, 0.8, 0.200), (2.76, 0.5, 0.150), (5.40, 0.3, 0.100)),
    ((1.0, 0.6, 0.100), (1.5, 0.6, 0.100), (2.5, 0.4, 0.070)),
)
CONTACT = (0.5, 0.25, 0.1)


def render_video(scene: Scene, size: int = SIZE) -> Tensor:
    """Return the frames of a scene, (3, 16, size, size) in [-1, 1]."""
    unit = SIZE / size
    axis = (torch.arange(size) + 0.5) * unit
    times = torch.arange(FRAMES) / FPS
    frames = _backdrop(scene, axis).expand(FRAMES, 3, size, size).clone()
    for ball in scene.balls:
        frames = _light_floor(frames, ball, times, axis)
    for ball in scene.balls:
        frames = _paint_ball(frames, ball, times, axis, unit)
    return frames.clamp(0, 1).transpose(0, 1) * 2 - 1


def _backdrop(scene: Scene, axis: Tensor) -> Tensor:
    wall = torch.tensor(scene.wall)[:, None] + scene.wall_slope * (axis / SIZE - 0.5)
    ground = torch.tensor(scene.ground)[:, None]
    below = (axis - FLOOR + 0.5).clamp(0, 1)
    return (wall * (1 - below) + ground * below)[None, :, :, None]


def _light_floor(frames: Tensor, ball: Ball, times: Tensor, axis: Tensor) -> Tensor:
    glow = torch.zeros(FRAMES)
    for impact, _ in ball.impacts:
        since = times - impact
        glow = glow + torch.where(since >= 0, torch.exp(-since / GLOW_SECONDS), 0.0)
    x = ball.x + ball.drift * times
    across = torch.exp(-((axis[None] - x[:, None]) ** 2) / (2 * GLOW_WIDTH**2))
    below = (axis - FLOOR + 0.5).clamp(0, 1)
    return frames + GLOW * glow[:, None, None, None] * below[None, None, :, None] * across[:, None, None, :]


def _paint_ball(frames: Tensor, ball: Ball, times: Tensor, axis: Tensor, unit: float) -> Tensor:
    heights = torch.tensor([ball.height(float(t)) for t in times])
    dx = axis[None, :] - (ball.x + ball.drift * times)[:, None]
    dy = axis[None, :] - (FLOOR - ball.radius - heights)[:, None]
    distance = torch.sqrt(dx[:, None, :] ** 2 + dy[:, :, None] ** 2)
    cover = ((ball.radius - distance) / unit + 0.5).clamp(0, 1)[:, None]
    # A highlight up and to the left makes a disc read as a ball.
    shine = torch.exp(
        -((dx[:, None, :] + 0.35 * ball.radius) ** 2 + (dy[:, :, None] + 0.35 * ball.radius) ** 2)
        / (0.5 * ball.radius**2)
    )[:, None]
    colour = torch.tensor(ball_colour(ball.material, ball.tint))[None, :, None, None]
    paint = colour * (0.75 + 0.25 * shine)
    return frames * (1 - cover) + paint * cover


def ball_colour(material: int, tint: float) -> tuple[float, float, float]:
    """Return the RGB colour of a material in [0, 1], `tint` in [-1, 1] shifting hue and brightness a little."""
    return colorsys.hsv_to_rgb((HUES[material] + 12 * tint) / 360, 0.85, 0.9 + 0.1 * tint)


def render_audio(scene: Scene) -> Tensor:
    """Return the audio of a scene, (1, 25600) in [-1, 1] at 16 kHz."""
    generator = torch.Generator().manual_seed(scene.noise_seed)
    samples = round(SECONDS * SAMPLE_RATE)
    audio = _hiss(scene, samples, generator)
    for impact, speed, ball in scene.impacts:
        start = math.ceil(impact * SAMPLE_RATE)
        strike = strike_sound(ball.material, pitch(ball.radius), samples - start, generator)
        audio[start:] += 0.28 * ball.gain * (speed / 100) * strike
    return audio[None].clamp(-1, 1)


def _hiss(scene: Scene, samples: int, generator: torch.Generator) -> Tensor:
    white = torch.randn(samples + 1, generator=generator)
    # One-zero filter: dark or bright background, whatever is struck.
    return scene.hiss * (white[1:] + scene.hiss_tilt * white[:-1])


def strike_sound(material: int, fundamental: float, samples: int, generator: torch.Generator) -> Tensor:
    """Return one strike of unit loudness, (samples,): contact noise, and decaying partials of random phase."""
    t = torch.arange(samples) / SAMPLE_RATE
    sound = CONTACT[material] * torch.randn(samples, generator=generator) * torch.exp(-t / 0.006)
    for ratio, amplitude, decay in PARTIALS[material]:
        if ratio * fundamental < 0.47 * SAMPLE_RATE:
            phase = 2 * math.pi * torch.rand((), generator=generator)
            sound = sound + amplitude * torch.exp(-t / decay) * torch.sin(2 * math.pi * ratio * fundamental * t + phase)
    return sound
