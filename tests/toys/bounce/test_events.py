"""Event detectors and their matching: against brute force, against what was drawn, and through an actual .mp4."""

import math
import random

import pytest
import torch

from mmdisco_cli.data.media import read_clip, write_mp4
from mmdisco_cli.toys.bounce.audio_events import impacts_in_audio
from mmdisco_cli.toys.bounce.dataset import Bounce
from mmdisco_cli.toys.bounce.events import Impact, event_iou, kind_correlation, match_events, material_agreement
from mmdisco_cli.toys.bounce.options import BounceOptions
from mmdisco_cli.toys.bounce.scene import SECONDS
from mmdisco_cli.toys.bounce.video_events import impacts_in_video


def events(times):
    return [Impact(t, 0.0, 0) for t in sorted(times)]


def most_pairs(video, audio, tolerance):
    """Return the size of the largest one-to-one matching, by augmenting paths."""
    partner = {}

    def augment(i, tried):
        for j, other in enumerate(audio):
            if j not in tried and abs(other.time - video[i].time) <= tolerance:
                tried.add(j)
                if j not in partner or augment(partner[j], tried):
                    partner[j] = i
                    return True
        return False

    return sum(augment(i, set()) for i in range(len(video)))


@pytest.mark.parametrize("seed", range(10))
def test_matching_is_optimal(seed):
    rng = random.Random(seed)
    for _ in range(60):
        crowded = rng.choice([0.2, 0.6, 1.6])
        video, audio = (events([rng.uniform(0, crowded) for _ in range(rng.randrange(7))]) for _ in range(2))
        match = match_events(video, audio, 0.05)
        assert len(match.pairs) == most_pairs(video, audio, 0.05)
        assert all(abs(a.time - b.time) <= 0.05 for a, b in match.pairs)
        assert len({id(a) for a, _ in match.pairs}) == len({id(b) for _, b in match.pairs}) == len(match.pairs)


def test_intersection_over_union_counts_what_is_left_over_on_either_side():
    assert match_events(events([0.1, 0.5, 0.9]), events([0.12, 0.7])).iou == pytest.approx(1 / 4)
    assert match_events([], events([0.3])).iou == 0
    assert match_events([], []).iou is None
    assert math.isnan(event_iou([match_events([], [])]))


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Return matches of 16 held-out clips, read from files as samples are written."""
    folder, data, matches = tmp_path_factory.mktemp("real"), Bounce(BounceOptions()).split("heldout"), []
    for index in range(16):
        media = data.media([index], ("audio", "video"))
        path = write_mp4(folder / f"{index}.mp4", media["video"][0], media["audio"][0], 10, 16000, scale=2)
        clip = read_clip(path, None, 16, 10, 64, 64, 16000)
        matches.append(match_events(impacts_in_video(clip.video, 2), impacts_in_audio(clip.audio[0])))
    return data, matches


def test_real_pairs_through_a_codec_are_the_ceiling(real):
    _, matches = real
    assert event_iou(matches) > 0.97
    assert kind_correlation(matches) > 0.95
    assert material_agreement(matches) > 0.97


def test_events_are_found_where_they_were_drawn(real):
    data, matches = real
    errors, missed = [], 0
    for index, match in enumerate(matches):
        truth = events([time for time, _, _ in data.scene(index).impacts])
        for side in (match.video, match.audio):
            found = match_events(truth, side, 0.05)
            errors += [abs(a.time - b.time) for a, b in found.pairs]
            missed += len(truth) + len(side) - 2 * len(found.pairs)
    assert missed <= 2
    assert sum(errors) / len(errors) < 0.012


def test_a_misaligned_fraction_lowers_agreement_to_the_mixture_of_right_and_wrong_pairs():
    def matches(misalignment, count=32):
        data = Bounce(BounceOptions(misalignment=misalignment)).split("heldout")
        found = []
        for index in range(count):
            media = data.media([index], ("audio", "video"))
            found.append(match_events(impacts_in_video(media["video"][0], 2), impacts_in_audio(media["audio"][0, 0])))
        wrong = [data.audio_scene(i) != data.scene(i) for i in range(count)]
        return found, wrong

    all_wrong, _ = matches(1.0)
    half, wrong = matches(0.5)
    chance, share = event_iou(all_wrong), sum(wrong) / len(wrong)
    assert chance < 0.35
    assert 0.3 < share < 0.7
    assert event_iou([m for m, w in zip(half, wrong, strict=True) if not w]) > 0.97
    assert event_iou(half) == pytest.approx(1 - share + share * chance, abs=0.06)
    assert abs(kind_correlation(all_wrong)) < 0.5


@pytest.mark.parametrize("level", [-1.0, 0.0, 1.0])
def test_an_even_frame_shows_no_event(level):
    assert impacts_in_video(torch.full((3, 16, 64, 64), level), 2) == []


@pytest.mark.parametrize("loud", [0.0, 1e-4, 1e-3])
def test_silence_and_hiss_hold_no_event(loud):
    sound = loud * torch.randn(round(16000 * SECONDS), generator=torch.Generator().manual_seed(0))
    assert impacts_in_audio(sound) == []


def test_balls_that_hang_in_the_air_show_no_event():
    video = Bounce(BounceOptions()).media([3], ("video",))["video"][0]
    assert impacts_in_video(video[:, :1].expand(-1, 16, -1, -1), 2) == []
