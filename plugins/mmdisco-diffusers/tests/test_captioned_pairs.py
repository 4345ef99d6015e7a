"""Pairs trained with captions and sampled with prompts, end to end: what is seen of a text is learnt and used."""

import json
import os
import signal
import subprocess
import sys

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


def test_under_captions_the_denoising_loss_falls_below_that_of_the_base_models(models, registry, clips, tmp_path):  # noqa: F811
    """Guided and unguided errors are of the same noise, so that even a small share of the loss is no accident."""
    spec = DatasetSpec("captioned", "clips", ClipsOptions, lambda: build_captioned, 1)
    found = Registry((*registry.plugins, Plugin("captioned", "0", "loaded", (("dataset", spec),))))
    folder, path = models("audioldm").parent, tmp_path / "pair.yaml"
    models("animatediff")
    text = RECIPE.format(clips=clips, audio="audioldm", video="animatediff", models=folder, fakes="shuffled")
    longer = (
        "steps: 60, log_every: 20, batch_size: 8, bank: 3, learning_rate: 0.01, warmup: 5, lambda_denoise: 10, ema: 0.9"
    )
    path.write_text(text.replace("steps: 4, batch_size: 4, bank: 3, learning_rate: 0.02, warmup: 1, ema: 0", longer))
    train(recipes.load(str(path), registry=found), TrainOptions(out=tmp_path / "trained"))
    rows = [json.loads(line) for line in (tmp_path / "trained" / "metrics.jsonl").read_text().splitlines()]
    gains = [row["gain"] for row in rows if row["stage"] == "discriminator"]
    assert len(gains) == 3
    assert min(gains) > 1e-4


def fresh(recipe, assembly):
    """Return the weights that training began with, as a file would hold them."""
    from mmdisco_cli.assembly import build_discriminator

    torch.manual_seed(recipe.train.seed)
    return build_discriminator(recipe.discriminator, assembly.shapes, assembly.pooled).state_dict()


KILLED = """
import os, signal, sys
from mmdisco_cli.app import run
from mmdisco_cli.training.metrics import MetricsLog

write = MetricsLog.write

def fatal(self, now, steps, figures):
    write(self, now, steps, figures)
    if now == int(os.environ["DIES_AT"]):
        os.kill(os.getpid(), signal.SIGKILL)

MetricsLog.write = fatal
sys.exit(run(sys.argv[1:]))
"""
"""A command that kills itself between two checkpoints."""


def captioned_table(folder):
    """Write a table that describes the clips of a folder, two of them by one text."""
    rows = [{"video": f"{i}.mp4", "caption": f"a dog {'barks' if i < 2 else f'sings {i}'}"} for i in range(4)]
    path = folder / "described.json"
    path.write_text(json.dumps(rows))
    return path


@pytest.mark.parametrize("fakes", ["shuffled", "generated"])
def test_a_captioned_pair_that_was_killed_ends_in_the_same_bits(fakes, models, clips, tmp_path):  # noqa: F811
    folder = models("audioldm").parent
    models("animatediff")
    recipe = RECIPE.format(
        clips=captioned_table(clips), audio="audioldm", video="animatediff", models=folder, fakes=fakes
    ).replace("name: captioned", "name: clips")
    (tmp_path / "pair.yaml").write_text(recipe.replace("steps: 4, batch", "steps: 5, checkpoint_every: 2, batch", 1))
    (tmp_path / "dying.py").write_text(KILLED)

    def trained(out, dies_at=0):
        paths = os.pathsep.join([str(tmp_path), *(path for path in sys.path if path)])
        done = subprocess.run(
            [sys.executable, "-m", "dying", "train", "--recipe", "pair.yaml", "--out", out],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": paths, "DIES_AT": str(dies_at), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stderr

    assert trained("killed", dies_at=3)[0] == -signal.SIGKILL
    assert torch.load(tmp_path / "killed/discriminator/state.pt", weights_only=True)["step"] == 2
    for out in ("killed", "whole"):
        code, said = trained(out)
        assert code == 0, said
        assert "captions: " in said
    ours, theirs = (load_file(tmp_path / out / "discriminator.safetensors") for out in ("killed", "whole"))
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
