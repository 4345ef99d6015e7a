"""Events found while a clip is decoded, kept and read again are those of its frames and audio by themselves."""

from fractions import Fraction

import pytest
import torch

from mmdisco_cli.data.media import read_clip, write_mp4
from mmdisco_cli.measures.analysis import Analysis
from mmdisco_cli.measures.cache import Cache
from mmdisco_cli.measures.clip_sets import Measuring, measure_clips
from mmdisco_cli.measures.features import features_of
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.toys.bounce.audio_events import impacts_in_audio
from mmdisco_cli.toys.bounce.clip_events import event_analysis, event_metrics, events_of, row_of
from mmdisco_cli.toys.bounce.dataset import Bounce
from mmdisco_cli.toys.bounce.events import match_events
from mmdisco_cli.toys.bounce.options import BounceOptions
from mmdisco_cli.toys.bounce.video_events import impacts_in_video


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder, data = tmp_path_factory.mktemp("clips"), Bounce(BounceOptions()).split("heldout")
    media = data.media(range(3), ("audio", "video"))
    pairs = zip(media["video"], media["audio"], strict=True)
    return [write_mp4(folder / f"{k}.mp4", *pair, 10, 16000, scale=2) for k, pair in enumerate(pairs)]


def measured(paths, folder):
    how = Measuring(Analysis(height=32), Cache(folder), event_analysis(2))
    return measure_clips(paths, how, "clips", 0, Ranks()).by_path()


def test_events_are_those_of_what_is_decoded_and_are_kept_exactly(paths, tmp_path, monkeypatch):
    first = measured(paths, tmp_path)
    monkeypatch.setattr(Cache, "put", lambda *_: pytest.fail("wrote what was there"))
    again = measured(paths, tmp_path)
    for path in paths:
        clip = read_clip(path, None, 16, Fraction(10), 64, 64, 16000)
        expected = match_events(impacts_in_video(clip.video, 2), impacts_in_audio(clip.audio[0]))
        assert expected.pairs
        for found in (events_of(first[path]), events_of(again[path])):
            assert found.match == expected
            features = features_of(clip.video, clip.audio)
            assert all(torch.equal(found.features[name], vector) for name, vector in features.items())


def test_other_lanes_are_another_analysis():
    assert event_analysis(2).name != event_analysis(3).name


def test_a_given_modality_is_measured_in_the_clip_that_gave_it(paths, tmp_path):
    one, other, _ = measured(paths, tmp_path).values()
    mixed = events_of(one, video=other)
    assert (mixed.match.video, mixed.match.audio) == (events_of(other).match.video, events_of(one).match.audio)
    assert mixed.path == one.path
    rows = {"real": [events_of(one), events_of(other)], "given_video": [mixed, mixed]}
    found = event_metrics(rows, ("given_video",), 0, ("event_iou",))
    assert found.keys() == {"given_video"}  # one row alone is compared with nothing
    assert found["given_video"]["events_seen"]["value"] == len(mixed.match.video)
    assert row_of("given_video", mixed)["seen"] == [round(event.time, 4) for event in mixed.match.video]
