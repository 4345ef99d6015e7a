"""A data set learns what the recipe's models take by the kinds of their modalities, not by shapes that look alike."""

import pytest

from mmdisco_cli.data.opening import open_dataset
from mmdisco_cli.diffusion.backbone import ModalityPlan, Request
from mmdisco_cli.errors import PluginError
from mmdisco_cli.recipes import recipe as recipes

DATA = """
from dataclasses import dataclass
from mmdisco_cli.hookspecs import DatasetSpec, hookimpl, lazy

@dataclass(frozen=True)
class Options:
    level: float = 1.0

@hookimpl
def mmdisco_datasets():
    yield DatasetSpec("stills", "constant clips", Options, lazy("mmdisco_stills:build"), api_version=1)

class Stills:
    length, fingerprint, report = 4, "stills", ()

    def __init__(self, level, known):
        self.level, self.known = level, known

    def split(self, part):
        return self

    def media(self, indices, modalities):
        import torch
        return {m: torch.full((len(indices), 1, 4, 4), self.level) for m in modalities}

def build(options, request, *, modalities, channels=None, sample_rate=None):
    return Stills(options.level, (modalities, request, channels, sample_rate))
"""
IMAGE = ModalityPlan((1, 4, 4), (1, 4, 6), None, 0.0)
AUDIO = ModalityPlan((2, 10), (2, 800), 8000.0, 0.1)
ROLL = ModalityPlan((12, 20), (12, 20), 10.0, 2.0)
VIDEO = ModalityPlan((3, 5, 4, 4), (3, 5, 16, 24), 10.0, 0.5)
EMPTY = Request()


@pytest.fixture
def opened(make_plugin, tmp_path, monkeypatch):
    monkeypatch.delenv("MMDISCO_PLUGINS", raising=False)
    make_plugin("mmdisco-stills", DATA)

    def opening(plans, kinds, level=1.0):
        path = tmp_path / "r.yaml"
        path.write_text(f"data: {{name: stills, level: {level}}}\n")
        return open_dataset(recipes.load(str(path)), Request(), plans, kinds=kinds).known[1:]

    return opening


@pytest.mark.parametrize(
    ("plans", "kinds", "expected"),
    [
        ({"melody": ROLL}, {"melody": "piano-roll"}, (EMPTY, None, None)),
        ({"melody": ROLL, "a": AUDIO}, {"melody": "piano-roll", "a": "audio"}, (EMPTY, 2, 8000)),
        ({"left": IMAGE}, {"left": "image"}, (Request(height=4, width=6), None, None)),
        ({"latent": IMAGE}, {"latent": "vector"}, (EMPTY, None, None)),
        (
            {"still": IMAGE, "clip": VIDEO},
            {"still": "image", "clip": "video"},
            (Request(frames=5, fps=10.0, height=16, width=24), None, None),
        ),
        ({"cloud": VIDEO}, {"cloud": "vector"}, (EMPTY, None, None)),
    ],
)
def test_only_audio_sets_its_format_and_only_video_and_images_a_size(opened, plans, kinds, expected) -> None:
    assert opened(plans, kinds) == expected


def test_images_are_in_range_whatever_their_label_and_vectors_anywhere(opened) -> None:
    with pytest.raises(PluginError, match=r"media of left reach 255, far outside of \[-1, 1\]"):
        opened({"left": IMAGE}, {"left": "image"}, level=255.0)
    opened({"left": IMAGE}, {"left": "vector"}, level=255.0)
