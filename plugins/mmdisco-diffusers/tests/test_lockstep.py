"""Pipelines in lockstep: alone as they are alone, guided as the native backbones are guided."""

import threading

import diffusers
import pytest
import torch
from oracles import CALLS, to_pipeline
from tiny import AUDIO, VIDEOS

from mmdisco_cli.diffusion.backbone import Base, Request, as_joint
from mmdisco_cli.diffusion.denoise import make_denoiser
from mmdisco_cli.diffusion.guidance import Guidance
from mmdisco_cli.diffusion.samplers import ddim
from mmdisco_cli.errors import UsageError
from mmdisco_diffusers.lockstep import Part, run

STEPS, SCALE = 4, 2.0
EVERYWHERE = {"audio": (-20.0, 20.0), "video": (-20.0, 20.0)}
SHAPES = {
    "text-to-video-sd": (
        lambda x: x.unflatten(0, (1, -1)).transpose(1, 2), lambda x: x.transpose(1, 2).flatten(0, 1)
    ),
    "cogvideox": (lambda x: x.transpose(1, 2), lambda x: x.transpose(1, 2)),
}  # fmt: skip


class Pair(torch.nn.Module):
    """A smooth discriminator that sees both modalities, with its own view of each."""

    def forward(self, x, log_snr, pooled=None):
        total = torch.stack([state.flatten(1).mean(1) for state in x.values()]).sum(0)
        return 20 * torch.tanh(total * 3) + sum(0.5 * s.flatten(1).square().mean(1) for s in x.values())


def part(models, family, noise, **changed):
    pipeline = diffusers.DiffusionPipeline.from_pretrained(models(family), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    arguments = {
        "prompt": ["dogs bark"], "num_inference_steps": STEPS, "guidance_scale": SCALE,
        "latents": to_pipeline(family, noise), "generator": torch.Generator().manual_seed(3),
        **CALLS[family], **changed,
    }  # fmt: skip
    return Part(pipeline, arguments, *SHAPES.get(family, ()))


def noises(models, backbone, audio, video):
    plans = plans_of(backbone, audio, video)
    generator = torch.Generator().manual_seed(7)
    return {m: torch.randn(1, *plan.latent_shape, generator=generator) for m, plan in plans.items()}


def plans_of(backbone, audio, video):
    frames = CALLS[video]["num_frames"]
    seconds = 1.2 if audio == "stable-audio" else 0.32
    return {
        "audio": backbone(audio).plan(Request(seconds=seconds)),
        "video": backbone(video).plan(Request(frames=frames, height=16, width=16)),
    }


def latents(result):
    return result.frames if hasattr(result, "frames") else torch.as_tensor(result.audios)


@pytest.mark.parametrize("audio", AUDIO)
@pytest.mark.parametrize("video", ["wan", "cogvideox"])
def test_without_guidance_each_is_as_it_is_alone(audio, video, models, backbone):
    noise = noises(models, backbone, audio, video)
    together = run({"audio": part(models, audio, noise["audio"]), "video": part(models, video, noise["video"])})
    zero = run(
        {"audio": part(models, audio, noise["audio"]), "video": part(models, video, noise["video"])},
        Guidance(Pair(), {"audio": 0.0, "video": 0.0}, EVERYWHERE),
    )
    for modality, family in (("audio", audio), ("video", video)):
        alone = part(models, family, noise[modality])
        expected = latents(alone.pipeline(**alone.arguments))
        assert torch.equal(latents(together[modality]), expected)
        assert torch.equal(latents(zero[modality]), expected)


@pytest.mark.parametrize("video", VIDEOS)
def test_guided_it_ends_where_the_native_backbones_end(video, models, backbone):
    audio = "audioldm2"
    noise, plans = noises(models, backbone, audio, video), plans_of(backbone, audio, video)
    weights = {"audio": 1.5, "video": 0.7}
    guidance = Guidance(Pair(), weights, EVERYWHERE)
    parts = {"audio": part(models, audio, noise["audio"]), "video": part(models, video, noise["video"])}
    found = run(parts, guidance)
    bases = []
    for modality, family in (("audio", audio), ("video", video)):
        joint = as_joint(backbone(family))
        plan = joint.plan(Request(seconds=0.32, frames=CALLS[video]["num_frames"], height=16, width=16))
        assert plan.modalities[modality].latent_shape == plans[modality].latent_shape
        bases.append(Base(joint, plan, joint.encode_prompt(["dogs bark"], None, plan)))
    denoise = make_denoiser(bases, guidance, {"audio": SCALE, "video": SCALE})
    grid = {m: levels for base in bases for m, levels in base.backbone.grid(STEPS, base.plan).items()}
    native = ddim(denoise, noise, grid)
    unguided = ddim(make_denoiser(bases, cfg={"audio": SCALE, "video": SCALE}), noise, grid)
    for modality, family in (("audio", audio), ("video", video)):
        end = latents(found[modality])
        end = end.transpose(1, 2) if family == "cogvideox" else end
        largest = max(1.0, float(native[modality].abs().max()))
        assert (native[modality] - unguided[modality]).abs().max() > 1e-2
        assert (end - native[modality]).abs().max() <= 1e-4 * largest


SOLVERS = [
    ("audioldm2", "LCMScheduler", {}), ("audioldm2", "EulerDiscreteScheduler", {}),
    ("audioldm2", "EulerAncestralDiscreteScheduler", {}), ("audioldm2", "DPMSolverMultistepScheduler", {}),
    ("cogvideox", "CogVideoXDPMScheduler", {}),
    ("wan", "UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}),
]  # fmt: skip


@pytest.mark.parametrize(("family", "solver", "changed"), SOLVERS)
def test_any_solver_works_stochastic_and_distilled_ones_too(family, solver, changed, models, backbone):
    other = "wan" if family == "audioldm2" else "audioldm2"
    modality, partner = ("audio", "video") if family == "audioldm2" else ("video", "audio")
    audio, video = (family, other) if modality == "audio" else (other, family)
    noise = noises(models, backbone, audio, video)

    def solved():
        made = part(models, family, noise[modality])
        made.pipeline.scheduler = getattr(diffusers, solver).from_config(made.pipeline.scheduler.config, **changed)
        return made

    def ended(guidance=None):
        parts = {modality: solved(), partner: part(models, other, noise[partner])}
        return latents(run(parts, guidance)[modality])

    alone = solved()
    expected = latents(alone.pipeline(**alone.arguments))
    assert torch.equal(ended(), expected)
    guided = ended(Guidance(Pair(), {modality: 1.5}, EVERYWHERE))
    assert guided.isfinite().all()
    assert (guided - expected).abs().max() > 1e-3


def test_unlike_numbers_of_steps_are_named(models, backbone):
    noise = noises(models, backbone, "audioldm2", "wan")
    parts = {
        "audio": part(models, "audioldm2", noise["audio"], num_inference_steps=2),
        "video": part(models, "wan", noise["video"]),
    }
    with pytest.raises(UsageError, match="lockstep: audio ends before video: give both as many steps"):
        run(parts)
    assert type(parts["audio"].pipeline.scheduler) is diffusers.DDIMScheduler


def test_an_error_of_one_pipeline_ends_both(models, backbone):
    noise = noises(models, backbone, "audioldm2", "wan")
    parts = {
        "audio": part(models, "audioldm2", noise["audio"]),
        "video": part(models, "wan", noise["video"], height=17),
    }
    with pytest.raises(ValueError, match="height"):
        run(parts)


def test_an_interrupt_ends_both_at_their_next_step(models, backbone, monkeypatch):
    noise = noises(models, backbone, "audioldm2", "wan")
    parts = {"audio": part(models, "audioldm2", noise["audio"]), "video": part(models, "wan", noise["video"])}
    met = []

    def interrupted(thread, timeout=None):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "join", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(parts, on_step=lambda count, logit: met.append(count))
    for thread in threading.enumerate():
        if thread.name in parts:
            thread.join(60)
            assert not thread.is_alive()
    assert len(met) < STEPS


def test_a_pipeline_of_several_schedulers_is_named(models):
    pipeline = diffusers.DiffusionPipeline.from_pretrained(models("ltx2"), local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    requested = {"prompt": "a dog", "num_frames": 9, "height": 64, "width": 64, "num_inference_steps": 2}
    with pytest.raises(UsageError, match="lockstep: a LTX2Pipeline uses several schedulers at once"):
        run({"video": Part(pipeline, {**requested, "stg_scale": 0.0, "audio_stg_scale": 0.0})})


def test_a_scheduler_of_unknown_levels_runs_where_nothing_guides(models, backbone):
    noise = noises(models, backbone, "audioldm2", "wan")

    def unusual():
        made = part(models, "audioldm2", noise["audio"])
        made.pipeline.scheduler = diffusers.EDMEulerScheduler()
        return made

    alone = unusual()
    expected = latents(alone.pipeline(**alone.arguments))
    found = run({"audio": unusual(), "video": part(models, "wan", noise["video"])})
    assert torch.equal(latents(found["audio"]), expected)
    with pytest.raises(UsageError, match="the noise levels of EDMEulerScheduler are not known"):
        run({"audio": unusual(), "video": part(models, "wan", noise["video"])}, Guidance(Pair(), {}, EVERYWHERE))


def test_what_it_cannot_do_is_said(models, backbone):
    class Reader(Pair):
        reads_x0 = True

    with pytest.raises(UsageError, match="reads the base models' x_0"):
        run({}, Guidance(Reader()))
    with pytest.raises(UsageError, match="guidance of the form released is not supported"):
        run({}, Guidance(Pair(), form="released"))
