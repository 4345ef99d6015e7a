"""Pipelines in memory as the base models of a recipe, as in a notebook."""

import diffusers
import pytest
import torch

import mmdisco_cli as mmdisco
from mmdisco_cli.errors import DataError, UsageError

RECIPE = """
request: {{frames: 5, fps: 8, height: 16, width: 16}}
backbones:
  audio: {{name: audioldm, path: "{audio}"}}
  video: {{name: animatediff, path: "{video}"}}
discriminator: {{name: energy, width: 8, depth: 1, heads: 2, steps: 4}}
sample: {{sampler: ddim, steps: 2, window: [-20, 20]}}
"""


def test_two_pipelines_are_joined_in_memory(models, tmp_path):
    folders = {"audio": models("audioldm"), "video": models("animatediff")}
    path = tmp_path / "pair.yaml"
    path.write_text(RECIPE.format(audio="", video=""))
    audio = diffusers.AudioLDMPipeline.from_pretrained(folders["audio"])
    video = diffusers.AnimateDiffPipeline.from_pretrained(folders["video"])
    pair = mmdisco.load(path, backbones={"audio": audio, "video": video})
    (sample,) = pair.sample(1, prompts="a dog barks", independent=True)

    path.write_text(RECIPE.format(**folders))
    (other,) = mmdisco.load(path).sample(1, prompts="a dog barks", independent=True)
    assert all(torch.allclose(sample.latents[m], other.latents[m], atol=1e-5) for m in folders)

    with torch.no_grad():
        video.unet.conv_out.weight.add_(0.1)  # as a LoRA that is fused into it would
    changed = mmdisco.load(path, backbones={"video": video}).sample(1, prompts="a dog barks", independent=True)[0]
    assert torch.allclose(changed.latents["audio"], other.latents["audio"], atol=1e-5)
    assert not torch.allclose(changed.latents["video"], other.latents["video"], atol=1e-3)


def test_an_object_that_is_no_pipeline_is_refused(tmp_path):
    path = tmp_path / "pair.yaml"
    path.write_text(RECIPE.format(audio="", video=""))
    with pytest.raises(UsageError, match=r"backbones\.audio: a int is not a pipeline of diffusers"):
        mmdisco.load(path, backbones={"audio": 3, "video": 4}).sample(1, independent=True)
    unet = diffusers.UNet2DModel(
        sample_size=8, layers_per_block=1, block_out_channels=(32,), down_block_types=("DownBlock2D",),
        up_block_types=("UpBlock2D",),
    )  # fmt: skip
    images = diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler())
    with pytest.raises(DataError, match="holds the pipeline DDPMPipeline, not AudioLDMPipeline"):
        mmdisco.load(path, backbones={"audio": images}).sample(1, independent=True)
