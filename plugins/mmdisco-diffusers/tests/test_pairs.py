"""Every audio model with every video model: a discriminator is trained and joins them, and one video comes out."""

import itertools
import math

import av
import pytest
import torch
from safetensors.torch import load_file
from tiny import AUDIO, VIDEOS

from mmdisco_cli.data.media import write_mp4
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.registry.plugins import Plugin, Registry, load_registry
from mmdisco_cli.run.options import SampleOptions, TrainOptions
from mmdisco_cli.sampling.run import sample
from mmdisco_cli.training.run import train
from mmdisco_diffusers import mmdisco_backbones

RECIPE = """
data: {{name: clips, path: {clips}}}
request: {{frames: 5, fps: 8, height: 16, width: 16}}
backbones:
  audio: {{name: "mmdisco-diffusers:{audio}", path: {models}/{audio}}}
  video: {{name: "mmdisco-diffusers:{video}", path: {models}/{video}}}
discriminator: {{name: energy, width: 8, depth: 1, heads: 2, steps: 4}}
train: {{steps: 3, batch_size: 4, bank: 3, learning_rate: 0.02, warmup: 1, ema: 0}}
sample:
  sampler: ddim
  steps: 2
  window: [-20, 20]
  keep_latents: true
  weights: {out}/discriminator.safetensors
"""


@pytest.fixture(scope="module")
def registry():
    """Return all that is installed, with this plugin also where it is only on the path."""
    entries = tuple(("backbone", spec) for spec in mmdisco_backbones())
    others = [plugin for plugin in load_registry().plugins if plugin.distribution != "mmdisco-diffusers"]
    return Registry((*others, Plugin("mmdisco-diffusers", "0", "loaded", entries)))


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder, generator = tmp_path_factory.mktemp("clips"), torch.Generator().manual_seed(0)
    for i in range(4):
        frames = torch.rand(3, 13, 16, 16, generator=generator) * 2 - 1
        tone = 0.5 * (torch.arange(26000) * (0.05 + 0.03 * i)).sin()[None]
        write_mp4(folder / f"{i}.mp4", frames, tone, 8, 16000)
    return folder


@pytest.mark.parametrize(("audio", "video"), list(itertools.product(AUDIO, VIDEOS)))
def test_a_pair_is_trained_joined_and_sampled(audio, video, models, registry, clips, tmp_path):
    folder = models(audio).parent
    assert models(video).parent == folder
    path = tmp_path / "pair.yaml"
    path.write_text(RECIPE.format(clips=clips, audio=audio, video=video, models=folder, out=tmp_path / "trained"))
    recipe = recipes.load(str(path), registry=registry)
    train(recipe, TrainOptions(out=tmp_path / "trained"))

    def drawn(name, *settings, **options):
        chosen = recipes.load(str(path), settings, registry=registry)
        options = SampleOptions(n=1, prompts=("a dog barks",), out=tmp_path / name, **options)
        sample(chosen, options)
        (latents,) = (tmp_path / name).glob("*.safetensors")
        return load_file(latents)

    guided, alone = drawn("guided"), drawn("alone", independent=True)
    unguided = drawn("unguided", "sample.guidance={audio: 0, video: 0}")
    for modality in ("audio", "video"):
        assert guided[modality].isfinite().all()
        assert not torch.equal(guided[modality], alone[modality])
        assert torch.equal(unguided[modality], alone[modality])
    assert_video_with_audio(next((tmp_path / "guided").glob("*.mp4")))


def assert_video_with_audio(path):
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        lengths = [float(stream.duration * stream.time_base) for stream in (video, audio)]
        frames = sum(1 for _ in container.decode(video))
    assert frames in (5, 9)
    assert math.isclose(*lengths, abs_tol=0.03)
