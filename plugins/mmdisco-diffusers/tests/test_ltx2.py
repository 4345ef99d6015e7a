"""LTX-2, which makes audio and video at once: beside its own pipeline, and with its two streams at unlike levels."""

import copy

import diffusers
import pytest
import torch
from frozen import assert_frozen
from oracles import PROMPTS, STEPS
from safetensors.torch import load_file

from mmdisco_cli.data.media import write_mp4
from mmdisco_cli.diffusion.backbone import Base, Request
from mmdisco_cli.diffusion.denoise import make_denoiser
from mmdisco_cli.diffusion.guidance import cfg_combine
from mmdisco_cli.diffusion.samplers import ddim
from mmdisco_cli.errors import UsageError
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.run.options import SampleOptions, TrainOptions
from mmdisco_cli.sampling.run import sample
from mmdisco_cli.testing import check_backbone
from mmdisco_cli.training.run import train
from mmdisco_diffusers.ltx2 import build
from mmdisco_diffusers.options import LTX2Options

REQUEST = Request(frames=9, fps=24, height=64, width=96)
SCALES = {"audio": 2.0, "video": 3.0}
CFG_ALONE = {"stg_scale": 0.0, "modality_scale": 1.0, "rescale": 0.0}
"""Leave out the guidance that only this pipeline has."""
OWN = {"stg_scale": 0.8, "stg_blocks": (1,), "modality_scale": 2.5, "rescale": 0.6}


@pytest.fixture(scope="module", params=[(family, own) for family in ("ltx2", "ltx2.3") for own in (False, True)])
def made(request, models):
    """Return the folder and the backbone of one layout, guided by CFG alone or in the pipeline's own way."""
    family, own = request.param
    folder = models(family)
    return folder, build("both", LTX2Options(path=str(folder), **(OWN if own else CFG_ALONE)), Request())


def own_arguments(options):
    """Return the arguments of the pipeline; scales of audio that are not given are those of video, but 0 is 0."""
    return {
        "stg_scale": options.stg_scale, "audio_stg_scale": options.stg_scale,
        "modality_scale": options.modality_scale, "audio_modality_scale": options.modality_scale,
        "guidance_rescale": options.rescale, "audio_guidance_rescale": options.rescale,
        "spatio_temporal_guidance_blocks": list(options.stg_blocks or ()) or None,
    }  # fmt: skip


@pytest.fixture(scope="module")
def walk(made):
    """Return noise, steps, end and pipeline: what a call hands to its two schedulers, audio and video apart."""
    folder, model = made
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    steps, ends = [], {}

    class Recording(type(pipeline.scheduler)):
        """Listens under any copy: the pipeline walks a copy of its scheduler for sound."""

        def step(self, output, t, sample, *args, **kwargs):
            steps.append((t, sample.clone(), output.clone()))
            out = super().step(output, t, sample, *args, **kwargs)
            ends[sample.shape[2]] = out[0]
            return out

    pipeline.scheduler.__class__ = Recording
    plan = model.plan(REQUEST)
    generator = torch.Generator().manual_seed(5)
    noise = {m: torch.randn(len(PROMPTS), *p.latent_shape, generator=generator) for m, p in plan.modalities.items()}
    given = raw(noise, pipeline)  # it normalises what it is given
    result = pipeline(
        PROMPTS, num_frames=9, frame_rate=24.0, height=64, width=96, num_inference_steps=STEPS, latents=given["video"],
        audio_latents=given["audio"], guidance_scale=SCALES["video"], audio_guidance_scale=SCALES["audio"],
        output_type="latent", **own_arguments(model.options),
    )  # fmt: skip
    pairs = [{"video": video, "audio": audio} for video, audio in zip(steps[::2], steps[1::2], strict=True)]
    return noise, pairs, {"video": result.frames, "audio": result.audio}, pipeline


def statistics(pipeline):
    """Return (modality, mean, deviation) of the latents of both codecs, which diffusers wants to be given."""
    video, audio = pipeline.vae, pipeline.audio_vae
    yield "video", video.latents_mean.view(1, -1, 1, 1, 1), video.latents_std.view(1, -1, 1, 1, 1)
    yield "audio", audio.latents_mean.view(1, 2, 1, 16), audio.latents_std.view(1, 2, 1, 16)


def raw(latents, pipeline):
    return {m: latents[m] * std + mean for m, mean, std in statistics(pipeline)}


def canonical(modality, tokens, plan):
    shape = plan.modalities[modality].latent_shape
    if modality == "video":
        return tokens.transpose(1, 2).unflatten(2, shape[1:])
    return tokens.unflatten(2, (shape[0], shape[2])).transpose(1, 2)


def test_predictions_are_those_handed_to_the_schedulers(made, walk):
    (_, model), (_, steps, _, _) = made, walk
    plan = model.plan(REQUEST)
    conditions = model.encode_prompt(PROMPTS, None, plan)
    positive, negative = ({m: getattr(c, sign) for m, c in conditions.items()} for sign in ("positive", "negative"))
    grid = model.grid(STEPS, plan)
    assert len(steps) == STEPS
    for i, step in enumerate(steps):
        x = {m: canonical(m, sample, plan) for m, (_, sample, _) in step.items()}
        for m, (t, _, _) in step.items():
            torch.testing.assert_close(grid[m].at(i).t, t.float(), rtol=1e-5, atol=1e-5)
        times = {m: grid[m].at(i).t.expand(len(PROMPTS)) for m in x}
        said, other = (model.predict(x, times, seen, plan) for seen in (positive, negative))
        guided = model.guided(x, times, positive, negative, SCALES, plan)
        for m, (_, _, output) in step.items():
            plain, expected = cfg_combine(said[m], other[m], SCALES[m]), canonical(m, output, plan)
            assert expected.std() > 1e-3
            assert (said[m] - other[m]).abs().max() > 1e-4
            assert (guided[m] - expected).abs().max() <= 1e-5 * max(1, float(expected.abs().max()))
            apart = (plain - expected).abs().max()
            assert apart > 1e-3 if model.options.rescale else apart <= 1e-5 * max(1, float(expected.abs().max()))


def test_samples_end_where_the_pipeline_ends(made, walk):
    (_, model), (noise, _, expected, pipeline) = made, walk
    plan = model.plan(REQUEST)
    base = Base(model, plan, model.encode_prompt(PROMPTS, None, plan))
    end = ddim(make_denoiser([base], cfg=SCALES), noise, model.grid(STEPS, plan))
    found = raw(end, pipeline)
    for m, wanted in expected.items():
        assert (found[m] - wanted).abs().max() <= 1e-4 * max(1, float(wanted.abs().max()))


def test_what_it_decodes_is_what_its_pipeline_decodes(made):
    folder, model = made
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    requested = {
        "num_frames": 9, "frame_rate": 24.0, "height": 64, "width": 96, "num_inference_steps": 2,
        "return_dict": False, **own_arguments(model.options),
    }  # fmt: skip
    ends = [
        pipeline(PROMPTS[:1], generator=torch.Generator().manual_seed(3), output_type=kind, **requested)
        for kind in ("latent", "np")
    ]
    plan = model.plan(REQUEST)
    moments = {m: (mean, std) for m, mean, std in statistics(pipeline)}
    latents = {m: (ends[0][i] - moments[m][0]) / moments[m][1] for i, m in enumerate(("video", "audio"))}
    shown = model.decode(latents, plan)
    video = torch.from_numpy(ends[1][0]).permute(0, 4, 1, 2, 3) * 2 - 1
    assert (shown["video"] - video).abs().max() < 1e-4
    sound = ends[1][1]
    assert 0 <= shown["audio"].shape[2] - sound.shape[2] <= 0.05 * plan.modalities["audio"].rate
    assert (shown["audio"][..., : sound.shape[2]] - sound).abs().max() < 1e-4
    assert not shown["audio"][..., sound.shape[2] :].any()
    # Nor is what it decodes affected by what is requested beside it.
    assert torch.equal(model.decode({"audio": latents["audio"]}, plan)["audio"], shown["audio"])


def test_blocks_that_it_does_not_have_cannot_be_left_out(models):
    folder = str(models("ltx2"))
    with pytest.raises(UsageError, match="stg_blocks: no block 2: the model has 2, counted from 0"):
        build("both", LTX2Options(path=folder, stg_blocks=(0, 2)), Request())
    # What its makers advise is for their size: here there is no such block, and nothing to leave out.
    assert build("both", LTX2Options(path=folder), Request()).skipped == ()


def test_its_own_guidance_names_its_samples_and_not_its_predictions(models):
    folder = str(models("ltx2"))
    usual, other = (build("both", LTX2Options(path=folder, rescale=r), Request()).info for r in (0.7, 0.2))
    assert usual.fingerprint == other.fingerprint
    assert usual.variant.startswith("vocoder ")
    assert other.variant == f"rescale 0.2, {usual.variant}"


def test_it_conforms(backbone):
    check_backbone(backbone("ltx2", pooled=True), REQUEST, ["a dog", "heavy rain"], steps=2)


RECIPE = """
data: {{name: clips, path: {clips}}}
request: {{frames: 9, fps: 24, height: 64, width: 64}}
backbones:
  both: {{name: ltx2, path: {model}}}
discriminator: {{name: energy, width: 8, depth: 1, heads: 2, steps: 4}}
train: {{fakes: generated, steps: 2, batch_size: 2, bank: 2, learning_rate: 0.02, warmup: 1, ema: 0, given_fraction: 0}}
sample: {{sampler: ddim, steps: 2, window: [-20, 20], weights: {out}/discriminator.safetensors}}
"""


def test_a_discriminator_adds_what_it_misses(models, tmp_path):
    clips = tmp_path / "clips"
    clips.mkdir()
    generator = torch.Generator().manual_seed(0)
    for i in range(2):
        frames = torch.rand(3, 13, 64, 64, generator=generator) * 2 - 1
        write_mp4(clips / f"{i}.mp4", frames, 0.5 * (torch.arange(13000) * 0.05).sin()[None], 24, 24000)
    path = tmp_path / "joint.yaml"
    path.write_text(RECIPE.format(clips=clips, model=models("ltx2"), out=tmp_path / "trained"))
    train(recipes.load(str(path)), TrainOptions(out=tmp_path / "trained"))
    videos = {}
    for name, options, settings in (
        ("guided", {}, ["sample.guidance={audio: 1, video: 20000}"]), ("alone", {"independent": True}, []),
        ("none", {}, ["sample.guidance={audio: 0, video: 0}"]),
    ):  # fmt: skip
        recipe = recipes.load(str(path), [*settings, "sample.keep_latents=true"])
        sample(recipe, SampleOptions(n=1, prompts=("a dog",), out=tmp_path / name, **options))
        (latents,) = (tmp_path / name).glob("*.safetensors")
        videos[name] = load_file(latents)
    for m in ("audio", "video"):
        assert videos["guided"][m].isfinite().all()
        assert torch.equal(videos["none"][m], videos["alone"][m])
    assert not torch.equal(videos["guided"]["video"], videos["alone"]["video"])


def test_audio_and_video_fit_together(backbone):
    model = backbone("ltx2")
    for frames, fps in ((9, 24), (17, 25), (121, 24), (257, 30)):
        plan = model.plan(Request(frames=frames, fps=fps, height=32, width=32)).modalities
        assert plan["video"].media_shape == (3, frames, 32, 32)
        assert plan["audio"].media_shape == (2, round(24000 * frames / fps))
        assert abs(plan["audio"].latent_shape[1] / 25 - frames / fps) <= 0.02
    notes = model.plan(Request(seconds=1.0, height=40, width=32)).notes
    assert "video: height 40 becomes 32: a multiple of 32 pixels" in notes


def test_each_stream_knows_its_own_level(backbone):
    model = backbone("ltx2")
    plan = model.plan(REQUEST)
    conditions = {m: c.positive for m, c in model.encode_prompt(["a dog"], None, plan).items()}
    generator = torch.Generator().manual_seed(0)
    x = {m: torch.randn(1, *p.latent_shape, generator=generator) for m, p in plan.modalities.items()}
    high, low = torch.tensor([900.0]), torch.tensor([200.0])
    same, apart = (
        model.predict(x, {"video": high, "audio": sound}, conditions, plan)["audio"] for sound in (high, low)
    )
    assert (same - apart).abs().max() > 1e-4


def test_no_gradient_reaches_it_nor_are_its_activations_kept(backbone):
    assert_frozen(backbone("ltx2"), REQUEST)


def test_what_it_saves_of_memory_changes_nothing(models, backbone):
    plain, thrifty = backbone("ltx2"), backbone("ltx2", text="free", offload="codec", chunk=1, slicing=True)
    plan = plain.plan(REQUEST)
    found, expected = (m.encode_prompt(PROMPTS, None, plan) for m in (thrifty, plain))
    for m, condition in expected.items():
        torch.testing.assert_close(found[m].positive["tokens"], condition.positive["tokens"], rtol=1e-4, atol=1e-5)
    assert not any(thrifty.parts.is_loaded(name) for name in ("text_encoder", "connectors"))
    latents = {m: torch.randn(2, *p.latent_shape) for m, p in plan.modalities.items()}
    once, again = plain.decode(latents, plan), thrifty.decode(latents, plan)
    assert all((once[m] - again[m]).abs().max() < 1e-4 for m in once)
    lines = copy.copy(thrifty.memory)
    assert lines[0].startswith("transformer: ")
    assert "vae and audio_vae and vocoder: " in lines[1]
