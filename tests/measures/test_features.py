"""Hand-made features change with what they are of, and with nothing else."""

import math

import torch

from mmdisco_cli.measures.distances import distances
from mmdisco_cli.measures.features import features_of, stacked
from mmdisco_cli.toys.bounce.dataset import Bounce
from mmdisco_cli.toys.bounce.options import BounceOptions


def test_features_tell_what_was_changed():
    data = Bounce(BounceOptions()).split("heldout")
    media = data.media(range(90), ("audio", "video"))
    videos = list(zip(media["video"], media["audio"], strict=True))

    def features(change=lambda video, sound: (video, sound), part=slice(0, 45)):
        return stacked([features_of(*change(video, sound)) for video, sound in videos[part]])

    changes = {
        "kd_logmel": lambda video, sound: (video, 0.3 * sound),
        "kd_frames": lambda video, sound: ((video + 0.3).clamp(-1, 1), sound),
        "kd_motion": lambda video, sound: (video[:, ::2].repeat_interleave(2, 1), sound),
    }
    reference = features(part=slice(45, 90))
    floor = distances({"real": features()}, reference, tuple(changes))
    for name, change in changes.items():
        found = distances({"changed": features(change)}, reference, tuple(changes))
        moved = {key: found[key]["changed"]["value"] - floor[key]["real"]["value"] for key in changes}
        assert moved[name] > 0.05, (name, moved)
        untouched = {"kd_logmel"} if name != "kd_logmel" else {"kd_frames", "kd_motion"}
        assert all(moved[key] == 0 for key in untouched)


def test_features_of_silence_and_of_one_frame_are_finite():
    found = features_of(torch.zeros(3, 1, 16, 16), torch.zeros(1, 400))
    assert all(bool(vector.isfinite().all()) for vector in found.values())
    assert {name: len(vector) for name, vector in found.items()} == {
        "kd_logmel": 128,
        "kd_frames": 384,
        "kd_motion": 384,
    }
    assert math.isclose(float(found["kd_logmel"][0]), -3)
