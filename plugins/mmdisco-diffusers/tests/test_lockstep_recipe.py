"""Two pipelines named in a recipe as they are: sampled from the command line, and refused for all else."""

import json

import av
import diffusers
import pytest
import torch
from test_pairs import assert_video_with_audio, clips, registry

from mmdisco_cli import app
from mmdisco_cli.assembly import assemble
from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.diffusion.noise import sample_keys
from mmdisco_cli.errors import Stopped
from mmdisco_cli.recipes import recipe as recipes
from mmdisco_cli.run.options import TrainOptions
from mmdisco_cli.sampling.draw import draw
from mmdisco_cli.training.run import train
from mmdisco_cli.weights_file import read_about
from mmdisco_diffusers.lockstep_backbone import build
from mmdisco_diffusers.options import LockstepOptions

__all__ = ["clips", "registry"]  # fixtures
REQUEST = "request: {frames: 5, fps: 8, height: 16, width: 16}"
BACKBONES = """
backbones:
  audio: {{name: {audio}, path: {models}/audioldm2{more}}}
  video: {{name: {video}, path: {models}/wan{more_video}}}
"""
SAMPLE = """
discriminator: {{name: energy, width: 8, depth: 1, heads: 2, steps: 4}}
train: {{steps: 3, batch_size: 4, bank: 3, learning_rate: 0.02, warmup: 1, ema: 0}}
sample: {{sampler: ddim, steps: 2, window: [-20, 20], weights: {out}/discriminator.safetensors}}
"""


@pytest.fixture
def write(models, tmp_path):
    """Return a function that writes a recipe of audio and video, in lockstep by default."""
    folder = models("audioldm2").parent
    assert models("wan").parent == folder

    def written(name, *, audio="lockstep", video="lockstep", more="", more_video="", rest="", out="nowhere", clips=""):
        data = f"data: {{name: clips, path: {clips}}}\n" if clips else ""
        path = tmp_path / f"{name}.yaml"
        backbones = BACKBONES.format(audio=audio, video=video, models=folder, more=more, more_video=more_video)
        path.write_text(f"{data}{REQUEST}{backbones}{SAMPLE.format(out=out)}{rest}")
        return path

    return written


def call(capsys, *arguments):
    code = app.run([str(argument) for argument in arguments])
    return code, *capsys.readouterr()


def test_each_is_what_its_pipeline_makes_alone(write, models):
    recipe = recipes.load(str(write("plain")))
    assembly = assemble(recipe, torch.device("cpu"), with_discriminator=False)
    drawn = draw(assembly, recipe.sample, 7, [3, 4], prompts=["a dog", "rain"], independent=True)
    requested = {"audio": {"audio_length_in_s": 0.625}, "video": {"num_frames": 5, "height": 16, "width": 16}}
    for modality, family in (("audio", "audioldm2"), ("video", "wan")):
        pipeline = diffusers.DiffusionPipeline.from_pretrained(models(family), local_files_only=True)
        pipeline.set_progress_bar_config(disable=True)
        keys = sample_keys(7, [3, 4], modality)
        for i, prompt in enumerate(("a dog", "rain")):
            generator = torch.Generator().manual_seed(int(keys[i]))
            result = pipeline(
                prompt, num_inference_steps=2, generator=generator, output_type="np", **requested[modality]
            )  # fmt: skip
            if modality == "audio":
                expected = torch.as_tensor(result.audios[0])[None]
            else:
                expected = torch.as_tensor(result.frames[0]).permute(3, 0, 1, 2) * 2 - 1
            found = drawn.latents[modality][i][..., : expected.shape[-1]]
            assert torch.equal(found, expected[..., : found.shape[-1]].clamp(-1, 1))
    assert not torch.equal(drawn.latents["video"][0], drawn.latents["video"][1])


def test_videos_come_from_the_command_line(write, tmp_path, capsys):
    path = write("plain")
    code, out, err = call(
        capsys, "sample", "--recipe", path, "--independent", "--n", 2, "--prompt", "a dog", "--out", tmp_path / "videos"
    )
    assert code == 0, err
    assert "note: audio: a AudioLDM2Pipeline in lockstep: its own scheduler steps, and it can only sample" in err
    videos = out.split()
    assert len(videos) == 2
    for video in videos:
        assert_video_with_audio(video)
    # The same call makes nothing again, and with one more sample only that one.
    code, out, err = call(
        capsys, "sample", "--recipe", path, "--independent", "--n", 3, "--prompt", "a dog", "--out", tmp_path / "videos"
    )
    assert "2 of 3 samples are there already" in err
    assert len(out.split()) == 3


def test_each_has_the_caption_of_its_modality(write, tmp_path, capsys):
    path, table = write("plain"), tmp_path / "prompts.csv"
    table.write_text("caption_audio,caption_video\na dog,a cat\n")
    common = ("sample", "--recipe", path, "--independent", "--n", 1, "--json")

    def made(name, *options):
        code, out, err = call(capsys, *common, "--out", tmp_path / name, *options)
        assert code == 0, err
        return json.loads(out)

    own, dog, cat = made("own", "--prompts", table), made("dog", "--prompt", "a dog"), made("cat", "--prompt", "a cat")
    assert own["captions"] == {"audio": "a dog", "video": "a cat"}
    found, as_dog, as_cat = (frames(row["path"]) for row in (own, dog, cat))
    assert torch.equal(found, as_cat)
    assert not torch.equal(found, as_dog)


def test_a_plan_loads_nothing(write, capsys, tmp_path):
    code, out, _ = call(
        capsys, "sample", "--recipe", write("plain"), "--independent", "--dry-run", "--json", "--out", tmp_path / "no"
    )
    plan = json.loads(out)
    assert code == 0
    assert plan["modalities"]["video"]["media"] == [3, 5, 16, 16]
    assert "GB in float32, all on the device" in plan["backbones"]["audio"]["memory"][0]
    assert not (tmp_path / "no").exists()


def test_a_discriminator_trained_beside_the_native_models_guides_them(
    write, models, clips, registry, capsys, tmp_path, backbone
):
    native = write("native", audio="audioldm2", video="wan", out=tmp_path, clips=clips)
    train(recipes.load(str(native), registry=registry), TrainOptions(out=tmp_path))
    capsys.readouterr()
    about = read_about(tmp_path / "discriminator.safetensors", "discriminator")
    latents = {m: list(shape) for m, shape in about["shapes"].items()}

    def settings(modality):
        return f", latent: {latents[modality]}, stands_for: {about['backbones'][modality]}"

    path = write("guided", out=tmp_path, more=settings("audio"), more_video=settings("video"))

    def videos(name, *options):
        code, out, err = call(
            capsys, "sample", "--recipe", path, "--n", 1, "--json", "--out", tmp_path / name, *options
        )
        assert code == 0, err
        return json.loads(out)

    guided, alone = (
        videos("guided", "--set", "sample.guidance={audio: 1, video: 20000}"),
        videos("alone", "--independent"),
    )
    none = videos("none", "--set", "sample.guidance={audio: 0, video: 0}")
    assert isinstance(guided["logit"], float)
    assert alone["logit"] is None
    decoded = [frames(row["path"]) for row in (guided, alone, none)]
    assert not torch.equal(decoded[0], decoded[1])
    assert torch.equal(decoded[2], decoded[1])
    # Without the two options the file is refused, since it says what it was trained beside.
    plain = write("plain", out=tmp_path)
    code, _, err = call(capsys, "sample", "--recipe", plain, "--n", 1, "--out", tmp_path / "plain")
    assert code == 4
    assert "trained with audio latents of shape" in err
    wrong = write("wrong", out=tmp_path, more=settings("audio") + ", axes: [1, 0, 2]", more_video=settings("video"))
    code, _, err = call(capsys, "sample", "--recipe", wrong, "--n", 1, "--out", tmp_path / "wrong")
    assert code == 2
    assert "backbones.audio.latent: its scheduler steps 4 x " in err


def frames(path):
    with av.open(path) as container:
        return torch.stack([torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)])


@pytest.mark.parametrize(
    ("changed", "arguments", "message"),
    [
        ({"video": "wan"}, ["--independent"], "backbones.video: other models of this recipe can only be run whole"),
        ({}, ["--independent", "--set", "sample.keep_latents=true"], "not kept as latents"),
        ({"more": ", arguments: {seed_of: 2}"}, ["--independent"], "a AudioLDM2Pipeline takes no seed_of"),
        (
            {"more": ", latent: [4, 16, 16], axes: [0, 1]"},
            ["--independent"],
            "backbones.audio.axes: [0, 1] must name each of 0 to 2 once",
        ),
        ({"more": ", latent: [4, 16, 16], axes: [0, 1, 1]"}, ["--independent"], "axes: [0, 1, 1] must name each of"),
        ({"more": ", axes: [1, 0, 2]"}, ["--independent"], "axes: [1, 0, 2] need a latent"),
        ({"more": ", rate: 8000"}, ["--independent"], "audio lasts 1.25 s at 8000 Hz, not 0.625 s"),
        (
            {},
            ["--independent", "--set", "request.fps=null"],
            "request.seconds: missing; a pipeline in",
        ),
        (
            {},
            ["--independent", "--set", "request={seconds: 0.6, frames: 5}"],
            "request: missing; frames, fps, height and width",
        ),
        (
            {"more_video": ", arguments: {num_frames: 9}"},
            ["--independent"],
            "video is 9 x 16 x 16 x 3, not 5 x 16 x 16",
        ),
        ({"more_video": ", arguments: {height: 20}"}, ["--independent"], "lockstep: "),
    ],
)
def test_what_does_not_fit_is_said(changed, arguments, message, write, capsys, tmp_path):
    code, _, err = call(
        capsys, "sample", "--recipe", write("x", **changed), "--n", 1, "--out", tmp_path / "o", *arguments
    )
    assert code == 2
    assert message in err


def test_it_holds_nothing_given_and_trains_nothing(write, clips, capsys, tmp_path):
    path = write("x", clips=clips)
    code, _, err = call(
        capsys,
        "sample",
        "--recipe",
        path,
        "--independent",
        "--given",
        f"video={clips / '0.mp4'}",
        "--out",
        tmp_path / "o",
    )
    assert code == 2
    assert "backbones.audio: it can only be run from noise to media, not sampled with a given modality" in err
    code, _, err = call(capsys, "train", "--recipe", path, "--out", tmp_path / "t")
    assert code == 2
    assert "backbones.audio: it can only be run from noise to media, not trained beside" in err


def test_what_is_no_pipeline_is_named(write, models, capsys, tmp_path):
    path = write("x")
    code, _, err = call(
        capsys, "sample", "--recipe", path, "--independent", "--set", f"backbones.audio.path={models('wan') / 'vae'}"
    )
    assert code == 4
    assert "holds no pipeline of diffusers" in err
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "model_index.json").write_text('{"_class_name": "PipelineOfTomorrow"}')
    code, _, err = call(
        capsys, "sample", "--recipe", path, "--independent", "--set", f"backbones.audio.path={tmp_path / 'odd'}"
    )
    assert code == 4
    assert "this version of diffusers has no PipelineOfTomorrow" in err


def test_a_signal_between_two_steps_leaves_both(write):
    recipe = recipes.load(str(write("plain")))
    assembly = assemble(recipe, torch.device("cpu"), with_discriminator=False)

    def stop(step):
        raise Stopped("stopped by SIGTERM")

    with pytest.raises(Stopped, match="SIGTERM"):
        draw(assembly, recipe.sample, 0, [0], independent=True, on_step=stop)
    done = []
    drawn = draw(assembly, recipe.sample, 0, [0, 1], independent=True, on_step=done.append)
    assert done == [1, 1, 2, 2]  # steps of the whole batch, though its samples are made one after another
    assert drawn.latents["audio"].shape[0] == 2


def test_axes_lead_to_the_discriminators_layout_and_back(models):
    options = LockstepOptions(path=str(models("cogvideox")), latent=(4, 3, 2, 2), axes=(1, 0, 2, 3))
    there, back = build("video", options, Request(frames=9, fps=8, height=16, width=16))._layouts
    x = torch.randn(1, 3, 4, 2, 2)  # time before channels
    assert torch.equal(there(x), x.transpose(1, 2))
    assert torch.equal(back(there(x)), x)
