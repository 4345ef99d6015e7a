"""AV-Align against what published code finds in the same clips, and against its definition on lists of times."""

import json
import random
from pathlib import Path

import pytest
import torch

from mmdisco_cli.measures.alignment import (
    MOST_PARTNERS,
    RULES,
    Peaks,
    align_clips,
    alignment_metrics,
    av_align,
    chances,
    matched,
    peaks_of,
)
from mmdisco_cli.measures.analysis import Analysis
from mmdisco_cli.measures.clip import measure_clip
from mmdisco_cli.measures.motion import motion_peaks
from mmdisco_cli.measures.onsets import HOP, ONSET_RATE, onset_envelope, onset_times, reach_at

CLIPS = Path(__file__).parent / "clips"
ASSETS = Path(__file__).parent.parent / "assets"
EXAMPLES = json.loads((CLIPS / "av_align_examples.json").read_text())
NATIVE = Analysis(height=None, fps=None)
ONCE, MANY = RULES["tempotokens-2025"], RULES["tempotokens-2023"]


@pytest.fixture(scope="module")
def measured():
    found = {}
    for name in EXAMPLES:
        path = CLIPS / name if (CLIPS / name).is_file() else ASSETS / name
        found[name] = measure_clip(path, NATIVE)
    return found


@pytest.mark.parametrize("name", EXAMPLES)
def test_scores_and_peaks_are_those_of_published_code(name, measured):
    expected = EXAMPLES[name]
    scores = {rule: av_align(peaks_of(measured[name], rule), RULES[rule]) for rule in RULES}
    assert scores == {
        "tempotokens-2025": expected["av_align_2025"],
        "tempotokens-2023": expected["av_align_2023"],
        "javisbench": expected["av_align_javisdit"],
    }
    peaks = peaks_of(measured[name], "tempotokens-2025")
    assert peaks.onsets == pytest.approx(expected["audio_peaks"], abs=1e-5)
    assert peaks.motion == pytest.approx(expected["video_peaks"], abs=1e-9)
    assert len(peaks_of(measured[name], "tempotokens-2023").motion) == expected["n_video_peaks_nothresh"]
    assert len(peaks_of(measured[name], "javisbench").onsets) == expected["n_audio_peaks_native_sr"]


def test_undefined_clips_are_counted_apart_and_not_as_0(measured):
    aligned = {
        "real": align_clips([measured["synth_static_silent_25.mp4"], measured["synth_sync_10.mp4"]], "tempotokens-2025")
    }
    found = alignment_metrics(aligned, 0, ("av_align",))["av_align"]["real"]
    assert (found["value"], found["n"], found["undefined"]) == (1.0, 1, 1)


def test_a_peak_is_matched_once_by_the_rule_of_2025_only():
    onsets, motion = [0.95, 1.0, 1.05], [1.0]
    assert matched(onsets, motion, 0.1, once=True) == 1
    assert matched(onsets, motion, 0.1, once=False) == 3
    assert av_align(Peaks(onsets, motion, 0.1), ONCE) == 1 / 3
    assert av_align(Peaks(onsets, motion, 0.1), MANY) == 3.0


def test_a_frame_away_is_no_match_and_within_it_the_first_free_peak_is_taken():
    assert matched([1.0], [1.25], 0.25, once=True) == 0
    assert matched([1.0, 1.125], [0.875, 1.0], 0.25, once=True) == 2
    # The first onset takes the peak that the second would need: the rule is greedy, not a maximum matching.
    assert matched([1.0, 0.75], [0.875, 1.125], 0.25, once=True) == 1


def test_motion_that_hardly_exceeds_its_neighbours_counts_only_without_a_threshold():
    assert motion_peaks([0.0, 0.05, 0.0, 0.3, 0.1, 0.1, 0.2], 0.1) == [3]
    assert motion_peaks([0.0, 0.05, 0.0, 0.3, 0.1, 0.1, 0.2], 0.0) == [1, 3]


def test_chance_meets_every_other_clip_and_never_itself():
    clips = [Peaks([k], [k], 0.1) for k in range(1, 6)]
    assert chances(clips, ONCE) == [0.0] * 5
    assert chances([Peaks([1.0], [1.0], 0.1)] * 3, ONCE) == [1.0] * 3
    assert chances([clips[0]], ONCE) == [None]
    assert chances([], ONCE) == []


def test_chance_of_a_large_set_is_near_that_of_all_its_pairs():
    draw = random.Random(0)
    clips = [Peaks(sorted(draw.uniform(0, 2) for _ in range(4)), [draw.uniform(0, 2)], 0.1) for _ in range(80)]
    pairs = [(a, b) for i, a in enumerate(clips) for j, b in enumerate(clips) if i != j]
    every = [av_align(Peaks(b.onsets, a.motion, 0.1), ONCE) for a, b in pairs]
    found = chances(clips, ONCE)
    assert len(clips) > MOST_PARTNERS
    assert sum(found) / len(found) == pytest.approx(sum(every) / len(every), abs=0.01)


def test_of_clips_of_different_length_only_the_common_part_is_mismatched():
    short, long = Peaks([0.5], [0.5], 0.1, stop=1.0), Peaks([0.5, 1.5, 2.5], [0.5, 1.5], 0.1, stop=3.0)
    assert chances([short, long], ONCE) == [1.0, 1.0]


def test_gain_has_an_interval_and_is_the_difference(measured):
    clips = [measured[name] for name in EXAMPLES if "silent" not in name]
    aligned = {"real": align_clips(clips, "tempotokens-2025")}
    found = {
        name: row["real"]
        for name, row in alignment_metrics(aligned, 0, ("av_align", "av_align_chance", "av_align_gain")).items()
    }
    difference = found["av_align"]["value"] - found["av_align_chance"]["value"]
    assert found["av_align_gain"]["value"] == pytest.approx(difference)
    assert found["av_align_gain"]["low"] <= difference <= found["av_align_gain"]["high"]


def test_onsets_lie_where_clicks_begin_at_any_rate():
    for rate in (ONSET_RATE, 44100, 48000):
        sound = torch.zeros(2 * rate)
        time = torch.arange(rate // 2) / rate
        for at in (0.5, 1.2):
            start = round(at * rate)
            sound[start : start + rate // 2] = torch.sin(6.28 * 1000 * time) * torch.exp(-time / 0.05)
        found = onset_times(onset_envelope(sound, rate), rate)
        assert found == pytest.approx([0.5, 1.2], abs=1.5 * HOP / rate)


def test_windows_of_a_peak_follow_the_sample_rate():
    assert reach_at(22050).__dict__ == {"before": 1, "mean_before": 4, "mean_after": 5, "wait": 1}
    assert reach_at(16000).__dict__ == {"before": 0, "mean_before": 3, "mean_after": 4, "wait": 0}


def test_silence_has_no_onsets():
    assert onset_times(onset_envelope(torch.zeros(ONSET_RATE), ONSET_RATE), ONSET_RATE) == []
