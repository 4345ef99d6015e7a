"""The bounce data: the same everywhere, true to its physics, with impacts that sound when and as they are seen."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

import mmdisco_cli
from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.errors import UsageError
from mmdisco_cli.toys.bounce.dataset import Bounce, build
from mmdisco_cli.toys.bounce.options import BounceOptions
from mmdisco_cli.toys.bounce.render import FRAMES, SAMPLE_RATE, ball_colour, render_audio, render_video
from mmdisco_cli.toys.bounce.scene import FLOOR, GRAVITY, RADIUS, SECONDS, SEPARATION, SIZE, draw_scene, pitch

SOME = range(40)


def clips(**options):
    return Bounce(BounceOptions(**options))


def strikes(scene):
    """Yield each impact with its sound alone: what the scene gains by it, all randomness before it being the same."""
    ball = scene.balls[0]
    sounds = [
        render_audio(replace(scene, balls=(replace(ball, impacts=ball.impacts[:count]),)))[0]
        for count in range(len(ball.impacts) + 1)
    ]
    for (time, speed), (before, after) in zip(ball.impacts, pairwise(sounds), strict=True):
        yield time, speed, after - before


def test_a_clip_is_the_same_in_another_process_and_needs_none_before_it():
    here = clips(seed=3)
    later_first = {i: here.scene(i) for i in (5, 0, 17)}
    code = (
        "from mmdisco_cli.toys.bounce.dataset import Bounce\n"
        "from mmdisco_cli.toys.bounce.options import BounceOptions\n"
        "b = Bounce(BounceOptions(seed=3), size=32)\n"
        "m = b.media([0, 5, 17], ('audio', 'video'))\n"
        "print([b.scene(i) for i in (0, 5, 17)], [float(m[k].double().sum()) for k in ('audio', 'video')])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12", "PYTHONPATH": str(Path(mmdisco_cli.__file__).parent.parent)}
    other = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    media = replace(here, size=32).media([0, 5, 17], ("audio", "video"))
    sums = [float(media[k].double().sum()) for k in ("audio", "video")]
    assert other.stdout.strip() == f"{[later_first[i] for i in (0, 5, 17)]} {sums}"


def test_media_do_not_depend_on_what_is_asked_for_beside_them():
    data = replace(clips(), size=32)
    both = data.media([7, 2], ("audio", "video"))
    assert both["audio"].shape == (2, 1, 25600)
    assert both["video"].shape == (2, 3, 16, 32, 32)
    assert torch.equal(data.media([2], ("audio",))["audio"][0], both["audio"][1])
    assert data.media([2], ("video",)).keys() == {"video"}
    assert all(float(x.abs().max()) <= 1 for x in both.values())


@pytest.mark.parametrize("objects", [1, 2, 3])
def test_objects_keep_to_their_lanes(objects):
    for i in SOME:
        balls = clips(objects=objects).scene(i).balls
        assert len(balls) == objects
        for lane, ball in enumerate(balls):
            for x in (ball.x, ball.x + ball.drift * SECONDS):
                assert x - ball.radius >= SIZE * lane / objects
                assert x + ball.radius <= SIZE * (lane + 1) / objects
            assert RADIUS[0] <= ball.radius <= RADIUS[1]


@pytest.mark.parametrize("objects", [1, 2, 3])
def test_impacts_are_apart_and_inside_the_clip(objects):
    for i in SOME:
        scene = clips(objects=objects).scene(i)
        times = [t for t, _, _ in scene.impacts]
        assert len(times) == sum(len(ball.impacts) for ball in scene.balls) > 0
        assert times[0] >= 0.08
        assert times[-1] <= 1.48
        assert all(later - earlier >= SEPARATION for earlier, later in pairwise(times))


def test_between_impacts_the_height_is_the_parabola_through_them():
    checked = 0
    for i in SOME:
        for ball in clips().scene(i).balls:
            for (start, _), (end, speed) in pairwise(ball.impacts):
                for share in (0.0, 0.1, 0.5, 0.77, 0.999):
                    t = start + share * (end - start)
                    # Thrown up under g and back at `end`: g / 2 (t - start) (end - t).
                    assert ball.height(t) == pytest.approx(GRAVITY / 2 * (t - start) * (end - t), abs=1e-6)
                assert speed == pytest.approx(GRAVITY * (end - start) / 2)
                checked += 1
    assert checked > 20


def test_at_impacts_the_ball_is_on_the_floor():
    for i in SOME:
        for ball in clips().scene(i).balls:
            for time, speed in ball.impacts:
                assert ball.height(time) == pytest.approx(0, abs=1e-9)
                assert ball.height(time - 1e-6) == pytest.approx(speed * 1e-6, rel=1e-3)
            assert all(ball.height(0.05 * k) >= 0 for k in range(32))


def test_every_contact_takes_speed():
    for i in SOME:
        for ball in clips().scene(i).balls:
            kept = [later / earlier for (_, earlier), (_, later) in pairwise(ball.impacts)]
            assert all(0.75 <= share <= 0.95 for share in kept)


def test_the_sound_begins_at_the_impact():
    for i in range(12):
        for time, _, sound in strikes(clips(objects=1).scene(i)):
            begins = int(torch.nonzero(sound.abs() > 1e-3)[0, 0]) / SAMPLE_RATE
            assert begins == pytest.approx(time, abs=1e-3)
            assert not sound[: int(time * SAMPLE_RATE)].any()


def test_the_first_sound_stands_out_of_the_hiss_at_once():
    for i in range(12):
        scene = clips().scene(i)
        sound, first = render_audio(scene)[0], scene.impacts[0][0]
        before = sound[: int(first * SAMPLE_RATE)]
        loud = int(torch.nonzero(sound.abs() > 2 * before.abs().max())[0, 0]) / SAMPLE_RATE
        assert loud == pytest.approx(first, abs=1e-3)


def test_what_is_heard_has_the_pitch_of_the_radius():
    for i in range(12):
        scene = clips(objects=1).scene(i)
        for time, _, sound in strikes(scene):
            start = math.ceil(time * SAMPLE_RATE) + 480  # 30 ms: the contact noise, of 6 ms, is over
            ringing = sound[start : start + 2000]
            spectrum = torch.fft.rfft(ringing * torch.hann_window(len(ringing)), n=1 << 17).abs()
            peaks = (spectrum[1:-1] > spectrum[:-2]) & (spectrum[1:-1] > spectrum[2:])
            lowest = int(torch.nonzero(peaks & (spectrum[1:-1] > 0.4 * spectrum.max()))[0, 0]) + 1
            found = lowest * SAMPLE_RATE / (1 << 17)
            assert found == pytest.approx(pitch(scene.balls[0].radius), rel=0.02)


def test_pitch_spans_two_octaves_downwards():
    assert pitch(RADIUS[0]) / pitch(RADIUS[1]) == pytest.approx(4)
    assert pitch(6.0) > pitch(6.1)


def test_harder_impacts_are_louder():
    scene = clips(objects=1).scene(0)
    ball = scene.balls[0]
    (time, speed), *_ = ball.impacts
    hard, soft = (
        render_audio(replace(scene, hiss=0.0, balls=(replace(ball, impacts=((time, s),)),))) for s in (speed, speed / 2)
    )
    torch.testing.assert_close(hard, 2 * soft)


def test_what_is_seen_is_a_disc_at_the_ball_s_place():
    checked = 0
    for i in range(6):
        scene = clips(objects=1).scene(i)
        ball, video = scene.balls[0], (render_video(scene) + 1) / 2
        colour = torch.tensor(ball_colour(ball.material, ball.tint))
        for k in range(FRAMES):
            t, frame = k / 10, video[:, k]
            high = ball.height(t)
            if not 1 < high < FLOOR - 2 * ball.radius:
                continue
            inside = (frame.amax(0) - frame.amin(0)) > 0.5 * (colour.max() - colour.min()) * 0.75
            rows, columns = torch.nonzero(inside, as_tuple=True)
            assert float(columns.float().mean()) + 0.5 == pytest.approx(ball.x + ball.drift * t, abs=0.5)
            assert float(rows.float().mean()) + 0.5 == pytest.approx(FLOOR - ball.radius - high, abs=0.5)
            assert int(inside.sum()) == pytest.approx(math.pi * ball.radius**2, rel=0.12)
            checked += 1
    assert checked > 30


def test_a_smaller_frame_is_the_same_frame():
    scene = clips().scene(4)
    whole, half = render_video(scene), render_video(scene, 32)
    averaged = torch.nn.functional.avg_pool2d(whole.transpose(0, 1), 2).transpose(0, 1)
    assert float((averaged - half).abs().mean()) < 0.02


def test_an_impact_lights_the_floor_and_the_light_fades():
    scene = clips(objects=1).scene(2)
    dark = replace(scene, balls=tuple(replace(b, impacts=()) for b in scene.balls))
    light = (render_video(scene) - render_video(dark))[:, :, int(FLOOR) + 1 :].amax((0, 2, 3))
    (time, _), *_ = scene.balls[0].impacts
    first = math.ceil(time * 10)
    assert float(light[:first].abs().max()) == 0
    assert float(light[first]) > 0.3


def test_parts_and_seeds_share_no_scene():
    sequences = [clips(), clips().split("heldout"), clips(seed=1)]
    seeds = [{data.scene(i).noise_seed for i in range(300)} for data in sequences]
    balls = [{data.scene(i).balls for i in range(100)} for data in sequences]
    for drawn, size in ((seeds, 300), (balls, 100)):
        assert all(len(some) == size for some in drawn)
        assert len(set.union(*drawn)) == 3 * size


def test_the_fingerprint_names_whatever_changes_a_clip():
    several = [
        clips(), clips(seed=1), clips(objects=1), clips(misalignment=0.5), clips().split("heldout"),
        replace(clips(), size=32),
    ]  # fmt: skip
    assert len({data.fingerprint for data in several}) == len(several)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_the_misaligned_fraction(fraction):
    data, count = clips(objects=1, misalignment=fraction), 600
    wrong = sum(data.audio_scene(i) != data.scene(i) for i in range(count))
    assert abs(wrong - fraction * count) <= 4 * math.sqrt(count * fraction * (1 - fraction))


def test_misaligned_sound_is_a_whole_clip_of_the_same_kind_heard_nowhere_else():
    data = clips(misalignment=1.0)
    found = {data.audio_scene(i).noise_seed for i in SOME}
    assert len(found) == len(SOME)
    assert not found & {data.scene(i).noise_seed for i in range(200)}
    assert len(data.audio_scene(0).balls) == 2
    assert torch.equal(data.media([1], ("audio",))["audio"][0], render_audio(data.audio_scene(1)))


def test_a_scene_has_its_own_draw():
    assert draw_scene("a", 0, 1) == draw_scene("a", 0, 1) != draw_scene("a", 1, 1)


def test_build_follows_the_request():
    request = Request(seconds=1.6, frames=16, fps=10.0, height=32, width=32)
    assert build(BounceOptions(objects=3), request).size == 32
    assert build(BounceOptions(), Request()).size == 64


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("frames", 8, "bounce clips have 16, not 8"),
        ("fps", 25.0, "bounce clips have 10, not 25.0"),
        ("seconds", 2.0, "bounce clips have 1.6, not 2.0"),
        ("height", 32, "bounce clips are square, not 32 by 64 pixels"),
    ],
)
def test_build_names_what_it_cannot_make(key, value, message):
    request = replace(Request(seconds=1.6, frames=16, fps=10.0, height=64, width=64), **{key: value})
    with pytest.raises(UsageError, match=rf"request\.{key}: {message}"):
        build(BounceOptions(), request)


def test_build_refuses_a_crowd_and_says_why():
    with pytest.raises(UsageError, match=r"data\.objects: bounce holds at most 3, not 4: each ball has a lane"):
        build(BounceOptions(objects=4), Request())
