"""Every family predicts what its pipeline hands to its scheduler, and ends where its pipeline ends."""

import diffusers
import pytest
import torch
from oracles import PROMPTS, SECONDS, STEPS, call, to_canonical, to_pipeline
from tiny import BUILDERS

from mmdisco_cli.diffusion.backbone import Base, Request, as_joint
from mmdisco_cli.diffusion.denoise import make_denoiser
from mmdisco_cli.diffusion.guidance import cfg_combine
from mmdisco_cli.diffusion.samplers import ddim, dpmpp_2m
from mmdisco_diffusers.animatediff import build
from mmdisco_diffusers.options import AnimateDiffOptions

REQUESTS = {
    "stable-audio": Request(seconds=1.2),
    "stable-audio-3": Request(seconds=1.2),
    "longcat": Request(seconds=1.2),
    "cogvideox": Request(frames=9, height=16, width=16),
    "ltx": Request(frames=9, height=32, width=32),
    "mochi": Request(frames=7, height=16, width=16),
}
VIDEO = Request(frames=5, height=16, width=16)
SCALE = 3.0


def request_of(family):
    from tiny import AUDIO

    return REQUESTS.get(family, Request(seconds=SECONDS) if family in AUDIO else VIDEO)


@pytest.fixture(scope="module")
def walks(models, backbone):
    made = {}

    def walk(family):
        if family not in made:
            plan = backbone(family).plan(request_of(family))
            noise = torch.randn(len(PROMPTS), *plan.latent_shape, generator=torch.Generator().manual_seed(5))
            made[family] = noise, call(models(family), family, to_pipeline(family, noise), SCALE)
        return made[family]

    return walk


@pytest.mark.parametrize("family", BUILDERS)
def test_predictions_are_those_handed_to_the_scheduler(family, backbone, walks):
    model, (_, walk) = backbone(family), walks(family)
    plan = model.plan(request_of(family))
    condition = model.encode_prompt(PROMPTS, None, plan)
    grid = model.grid(STEPS, plan)
    assert len(walk.steps) == STEPS
    for i, (t, sample, expected) in enumerate(walk.steps):
        level = grid.at(i)
        torch.testing.assert_close(level.t, t.float(), rtol=1e-5, atol=1e-5)
        x = to_canonical(family, sample)
        if family == "stable-audio":  # its scheduler keeps x of variance 1 + sigma^2
            x = x * level.alpha
        times = level.t.expand(len(x))
        positive, negative = (model.predict(x, times, c, plan) for c in (condition.positive, condition.negative))
        found = cfg_combine(positive, negative, SCALE)
        assert expected.std() > 1e-3  # a model that says nothing would agree with anything
        assert (positive - negative).abs().max() > 1e-4
        expected = to_canonical(family, expected)
        assert (found - expected).abs().max() <= 1e-5 * max(1, float(expected.abs().max()))


@pytest.mark.parametrize("family", sorted(BUILDERS.keys() - {"stable-audio"}))  # its solver draws noise
def test_samples_end_where_the_pipeline_ends(family, backbone, walks):
    model, (noise, walk) = backbone(family), walks(family)
    joint = as_joint(model)
    plan = joint.plan(request_of(family))
    base = Base(joint, plan, joint.encode_prompt(PROMPTS, None, plan))
    (modality,) = plan.modalities
    denoise = make_denoiser([base], cfg={modality: SCALE})
    end = ddim(denoise, {modality: noise}, joint.grid(STEPS, plan))[modality]
    expected = to_canonical(family, walk.end)
    assert (end - expected).abs().max() <= 1e-4 * max(1, float(expected.abs().max()))


@pytest.mark.parametrize(
    ("solver", "options"),
    [
        ("EulerDiscreteScheduler", {"timestep_spacing": "leading", "steps_offset": 1}),
        ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
        ("DPMSolverMultistepScheduler", {"solver_order": 1}),
        (
            "DPMSolverMultistepScheduler",
            {"solver_order": 1, "use_karras_sigmas": True, "final_sigmas_type": "sigma_min"},
        ),
        ("DPMSolverMultistepScheduler", {"solver_order": 2}),
    ],
    ids=str,
)
def test_samples_end_where_another_solver_ends(solver, options, models, tmp_path):
    betas = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear"}
    scheduler = getattr(diffusers, solver)(**betas, **options)
    folder = models("animatediff")
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder, local_files_only=True, scheduler=scheduler)
    pipeline.save_pretrained(tmp_path)
    model = build("video", AnimateDiffOptions(path=str(tmp_path)), Request())
    joint = as_joint(model)
    plan = joint.plan(VIDEO)
    shape = plan.modalities["video"].latent_shape
    noise = torch.randn(len(PROMPTS), *shape, generator=torch.Generator().manual_seed(5))
    walk = call(tmp_path, "animatediff", noise, SCALE)
    base = Base(joint, plan, joint.encode_prompt(PROMPTS, None, plan))
    grid = joint.grid(STEPS, plan)
    first = walk.steps[0][1]  # Euler's keeps x / alpha
    start = first * grid["video"].alpha[0] if solver.startswith("Euler") else first
    sampler = dpmpp_2m if options.get("solver_order") == 2 else ddim
    end = sampler(make_denoiser([base], cfg={"video": SCALE}), {"video": start}, grid)["video"]
    assert (end - walk.end).abs().max() <= 1e-4 * max(1, float(end.abs().max()))
