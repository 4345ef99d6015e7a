"""Pairs trained with captions and sampled with prompts, end to end: what is seen of a text is learnt and used."""

import pytest
import torch
from safetensors.torch import load_file
from test_pairs import clips, registry  # noqa: F401 - fixtures

from mmdisco_cli.assembly import assemble
from mmdisco_cli.data.clips import build as build_clips
from mmdisco_cli.data.manifest import read_rows
from mmdisco_cli.data.options import ClipsOptions
from mmdisco_cli.hookspecs import DatasetSpec
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.registry.plugins import Plugin, Registry
from mmdisco_cli.run.options import SampleOptions, TrainOptions
from mmdisco_cli.sampling.run import sample
from mmdisco_cli.training.run import train
from mmdisco_cli.weights_file import read_about

RECIPE = """
data: {{name: captioned, path: {clips}}}
request: {{frames: 5, fps: 8, height: 16, width: 16}}
backbones:
  audio: {{name: "mmdisco-diffusers:{audio}", path: {models}/{audio}, pooled: true}}
  video: {{name: "mmdisco-diffusers:{video}", path: {models}/{video}, pooled: true}}
discriminator: {{name: energy, width: 8, depth: 1, heads: 2, steps: 4}}
train: {{fakes: {fakes}, steps: 4, batch_size: 4, bank: 3, learning_rate: 0.02, warmup: 1, ema: 0}}
sample:
  sampler: ddim
  steps: 2
  window: [-20, 20]
  keep_latents: true
"""


class CaptionedClips:
    """The windows of a folder, described by which of its modalities is meant and a number."""

    def __init__(self, whole):
        self._clips = whole
        self.length, self.fingerprint, self.report = whole.length, whole.fingerprint, whole.report

    def split(self, part):
        return CaptionedClips(self._clips.split(part))

    def media(self, indices, modalities):
        return self._clips.media(indices, modalities)

    def captions(self, indices, modalities):
        return {m: [f"{m} of a dog that barks {'again ' * (i % 2)}loudly" for i in indices] for m in modalities}


def build_captioned(options, request, *, sample_rate=16000, channels=1, modalities=("audio", "video")):
    return CaptionedClips(
        build_clips(options, request, sample_rate=sample_rate, channels=channels, modalities=modalities)
    )


@pytest.mark.parametrize(
    ("audio", "video", "fakes"),
    [
        ("audioldm", "animatediff", "shuffled"),
        ("stable-audio", "wan", "generated"),
        ("audioldm2", "cogvideox", "mixed"),
    ],
)
def test_a_pair_trained_with_captions_is_guided_by_prompts(audio, video, fakes, models, registry, clips, tmp_path):  # noqa: F811
    spec = DatasetSpec("captioned", "clips", ClipsOptions, lambda: build_captioned, 1)
    found = Registry((*registry.plugins, Plugin("captioned", "0", "loaded", (("dataset", spec),))))
    folder, path, out = models(audio).parent, tmp_path / "pair.yaml", tmp_path / "trained"
    models(video)
    path.write_text(RECIPE.format(clips=clips, audio=audio, video=video, models=folder, fakes=fakes))
    recipe = recipes.load(str(path), registry=found)
    train(recipe, TrainOptions(out=out))
    weights = out / "discriminator.safetensors"
    assert read_about(weights, "discriminator")["captions"] is True

    joined = recipes.load(str(path), [f"sample.weights={weights}"], registry=found)
    assembly = assemble(joined, torch.device("cpu"))
    start = fresh(joined, assembly)
    after = assembly.discriminator.module.state_dict()
    prompts = [name for name in after if ".prompt." in name]
    assert len(prompts) >= 4  # a weight and a bias a modality
    assert [name for name in prompts if torch.allclose(after[name], start[name], atol=1e-3)] == []

    def drawn(name, **options):
        sample(joined, SampleOptions(n=1, out=tmp_path / name, **options))
        (latents,) = (tmp_path / name).glob("*.safetensors")
        return load_file(latents)

    own = {"audio": "a dog barks", "video": "a cat"}
    one, other = drawn("one", prompts=("a dog barks",)), drawn("other", prompts=("x",), captions=(own,))
    alone = drawn("alone", prompts=("a dog barks",), independent=True)
    for modality in ("audio", "video"):
        assert one[modality].isfinite().all()
        assert not torch.equal(one[modality], alone[modality])
    assert not torch.equal(one["video"], other["video"])
    assert read_rows(tmp_path / "other")[0]["captions"] == own


def fresh(recipe, assembly):
    """Return the weights that training began with, as a file would hold them."""
    from mmdisco_cli.assembly import build_discriminator

    torch.manual_seed(recipe.train.seed)
    return build_discriminator(recipe.discriminator, assembly.shapes, assembly.pooled).state_dict()
