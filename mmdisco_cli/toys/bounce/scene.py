"""Scenes of the bounce data set: balls under gravity, every impact known in time and kind.

A scene is drawn from `random.Random("seed:index")`, so clip 17 of seed 0 is the same on every machine and needs nothing
before it.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

GRAVITY = 220.0
"""Pixels per second squared, at the native frame size of 64."""
FLOOR = 56.0
"""Row of the floor's upper edge, in pixels of the native frame."""
SIZE = 64
SECONDS = 1.6
FIRST_IMPACT, LAST_IMPACT = 0.08, 1.48
SEPARATION = 0.12
"""No two impacts of one scene are closer than this many seconds: two onsets 30 ms apart are one sound to the ear."""
RADIUS = (5.0, 10.0)
MATERIALS = ("wood", "metal", "glass")


@dataclass(frozen=True)
class Ball:
    """One ball: constant size and material, bouncing in its own lane.

    `impacts` holds (time in seconds, speed in pixels per second) of every floor contact within the clip, `launches` the
    (time, upward speed) that starts each ballistic arc, the first before the clip begins.
    """

    x: float
    drift: float
    radius: float
    material: int
    tint: float
    gain: float
    launches: tuple[tuple[float, float], ...]
    impacts: tuple[tuple[float, float], ...]

    def height(self, time: float) -> float:
        """Return the height of the ball's lowest point above the floor at `time`, in pixels."""
        start, speed = next(launch for launch in reversed(self.launches) if launch[0] <= time)
        elapsed = time - start
        return max(speed * elapsed - GRAVITY * elapsed**2 / 2, 0.0)


@dataclass(frozen=True)
class Scene:
    """Balls and the nuisances that neither modality shares with the other."""

    balls: tuple[Ball, ...]
    wall: tuple[float, float, float]
    wall_slope: float
    ground: tuple[float, float, float]
    hiss: float
    hiss_tilt: float
    noise_seed: int

    @property
    def impacts(self) -> list[tuple[float, float, Ball]]:
        """Every impact as (time, speed, ball), in order of time."""
        return sorted(((t, v, ball) for ball in self.balls for t, v in ball.impacts), key=lambda event: event[0])


def pitch(radius: float) -> float:
    """Return the fundamental in Hz of a ball of `radius` pixels: two octaves from the largest to the smallest."""
    return 400.0 * (RADIUS[1] / radius) ** 2


@dataclass(frozen=True)
class Place:
    """A ball to draw: its lane, and the material and the least and largest radius that it must have, if any."""

    lane: int
    material: int | None = None
    radius: tuple[float, float] = RADIUS


def draw_scene(seed: str, index: int, objects: int) -> Scene:
    """Draw scene `index` of the data set `seed`, with `objects` balls in equally wide lanes."""
    rng = random.Random(f"{seed}:{index}")
    return draw_places(rng, [Place(lane) for lane in range(objects)], objects)


def draw_places(rng: random.Random, places: Sequence[Place], lanes: int) -> Scene:
    """Draw a scene with a ball in each of these places, of so many equally wide lanes."""
    while True:
        balls = tuple(_draw_ball(rng, place, lanes) for place in places)
        times = sorted(t for ball in balls for t, _ in ball.impacts)
        if _audible(times):
            return _furnish(rng, balls)


def _audible(times: list[float]) -> bool:
    apart = all(later - earlier >= SEPARATION for earlier, later in pairwise(times))
    return bool(times) and apart and times[0] >= FIRST_IMPACT and times[-1] <= LAST_IMPACT


def _furnish(rng: random.Random, balls: tuple[Ball, ...]) -> Scene:
    def grey(low: float, high: float) -> tuple[float, float, float]:
        level = rng.uniform(low, high)
        return (level + rng.uniform(-0.03, 0.03), level + rng.uniform(-0.03, 0.03), level + rng.uniform(-0.03, 0.03))

    return Scene(
        balls=balls,
        wall=grey(0.12, 0.40),
        wall_slope=rng.uniform(-0.10, 0.10),
        ground=grey(0.08, 0.30),
        hiss=10 ** rng.uniform(-4.2, -3.2),
        hiss_tilt=rng.uniform(-0.6, 0.6),
        noise_seed=rng.getrandbits(62),
    )


def _draw_ball(rng: random.Random, place: Place, lanes: int) -> Ball:
    width, lane = SIZE / lanes, place.lane
    small, large = place.radius
    radius = math.exp(rng.uniform(math.log(small), math.log(large)))
    margin = radius + 1.0
    x = width * lane + rng.uniform(margin, width - margin)
    launches, impacts = _bounce(rng)
    return Ball(
        x=x,
        drift=_drift(rng, x - width * lane, width, margin),
        radius=radius,
        material=rng.randrange(len(MATERIALS)) if place.material is None else place.material,
        tint=rng.uniform(-1.0, 1.0),
        gain=rng.uniform(0.6, 1.0),
        launches=launches,
        impacts=impacts,
    )


def _drift(rng: random.Random, offset: float, width: float, margin: float) -> float:
    """Draw a sideways speed in pixels per second that keeps the ball inside its lane for the whole clip."""
    return rng.uniform(margin - offset, width - margin - offset) / SECONDS


def _bounce(rng: random.Random) -> tuple[tuple[tuple[float, float], ...], tuple[tuple[float, float], ...]]:
    """Draw one ball's arcs: it leaves the floor before the clip begins and loses speed at every contact."""
    flight, restitution = rng.uniform(0.7, 1.1), rng.uniform(0.75, 0.95)
    start = -rng.uniform(0.0, flight)
    launches, impacts = [], []
    while start < SECONDS:
        launches.append((start, GRAVITY * flight / 2))
        start += flight
        if start < SECONDS:
            impacts.append((start, GRAVITY * flight / 2))
        flight *= restitution
    return tuple(launches), tuple(impacts)
