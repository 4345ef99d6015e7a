"""What a model makes of a request, in shapes and in words; and its noise levels beside diffusers' own schedulers."""

import diffusers
import pytest
import torch
from tiny import BUILDERS, wan, wan_transformer

from mmdisco_cli.diffusion.backbone import Base, Request, as_joint
from mmdisco_cli.diffusion.coupling import Coupling, coupled_grid
from mmdisco_cli.diffusion.schedules import log_snr
from mmdisco_cli.errors import UsageError
from mmdisco_cli.testing import check_backbone
from mmdisco_diffusers.levels import prediction_of, schedule_of
from mmdisco_diffusers.memory import memory_lines
from mmdisco_diffusers.options import ModelOptions
from mmdisco_diffusers.parts import Parts
from mmdisco_diffusers.request import VideoRules, video_shape

WAN = VideoRules(16.0, (81, 480, 832), first=1, group=4, cell=16, why="one frame, then groups of 4")


@pytest.mark.parametrize(
    ("request_", "shape", "notes"),
    [
        (Request(), (81, 480, 832), []),
        (Request(frames=81, height=480, width=832), (81, 480, 832), []),
        (Request(seconds=5.0), (81, 480, 832), ["video: frames 80 becomes 81: one frame, then groups of 4"]),
        (Request(frames=2), (5, 480, 832), ["video: frames 2 becomes 5: one frame, then groups of 4"]),
        (Request(frames=1), (1, 480, 832), []),
        (Request(frames=84, height=490), (85, 480, 832), [
            "video: frames 84 becomes 85: one frame, then groups of 4",
            "video: height 490 becomes 480: a multiple of 16 pixels",
        ]),
        (Request(frames=17, fps=10), (17, 480, 832), ["video: played at 10 frames a second, but trained at 16"]),
        (Request(frames=33, fps=16, seconds=3.0), (33, 480, 832), [
            "video: seconds 3 becomes 2.0625: 33 frames at 16 frames a second"
        ]),
        (Request(width=3), (81, 480, 16), ["video: width 3 becomes 16: a multiple of 16 pixels"]),
    ],
)  # fmt: skip
def test_what_is_snapped_is_said(request_, shape, notes):
    found, _, said = video_shape(request_, WAN)
    assert found == shape
    assert list(said) == notes


def test_frames_are_bounded_where_the_model_knows_no_more_positions():
    rules = VideoRules(8.0, (16, 64, 64), most=24, why="know 24")
    assert video_shape(Request(frames=40), rules)[0][0] == 24
    assert video_shape(Request(seconds=2.0), rules)[0][0] == 16


def test_each_family_plans_by_its_own_rules(backbone):
    def shapes(family, **request):
        plan = backbone(family).plan(Request(**request))
        return plan.latent_shape, plan.media_shape, plan.notes

    assert shapes("audioldm", seconds=0.33)[:2] == ((4, 9, 16), (1, 5280))
    assert shapes("audioldm", frames=8, fps=16)[1] == (1, 8000)
    latent, media, notes = shapes("stable-audio", seconds=0.5)
    assert (latent, media) == ((4, 32), (2, 400))
    assert notes == ("audio: 1.28 s are made whatever the length, and the first 0.5 s kept",)
    assert shapes("stable-audio", seconds=9.0)[1:] == (
        (2, 1024), ("audio: seconds 9 becomes 1.28: the most that this model makes",)
    )  # fmt: skip
    short = backbone("stable-audio", full=False).plan(Request(seconds=0.5))
    assert (short.latent_shape, short.media_shape) == ((4, 13), (2, 400))
    assert short.notes == ("audio: made no longer than requested, unlike in this model's training",)
    latent, media, notes = shapes("animatediff", seconds=2.0, height=20, width=16)
    assert (latent, media) == ((4, 8, 5, 4), (3, 8, 20, 16))
    assert notes == ("video: frames 16 becomes 8: the motion modules were trained on 16 frames and take at most 8",)
    assert shapes("text-to-video-sd", frames=3, height=16, width=16)[0] == (4, 3, 4, 4)
    assert shapes("cogvideox", frames=13, height=16, width=32)[:2] == ((4, 5, 2, 4), (3, 17, 16, 32))
    assert shapes("wan", frames=13, height=16, width=32)[:2] == ((4, 4, 2, 4), (3, 13, 16, 32))


@pytest.mark.parametrize("family", ["audioldm", "audioldm2"])
def test_sound_of_any_length_is_decoded_as_long_as_it_is_planned(family, backbone):
    model = backbone(family)
    check_backbone(model, Request(frames=49, fps=8), steps=2)  # 98000 samples: 612.5 mel frames
    lengths = [Request(frames=n, fps=fps) for fps in (8, 24) for n in (1, 2, 9, 13, 17, 25)]
    for request in [*lengths, Request(seconds=0.001), Request(seconds=0.33), Request(seconds=0.6407)]:
        plan = model.plan(request)
        sound = model.decode(torch.randn(1, *plan.latent_shape), plan)
        assert sound.shape == (1, *plan.media_shape)
        assert model.encode(sound, plan).shape == (1, *plan.latent_shape)
        # Pipelines cut what no whole mel frame holds, and then fill up to whole cells.
        assert plan.latent_shape[1] == -(-(plan.media_shape[1] // 160) // 4)


def on_disk(scheduler, folder):
    scheduler.save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(f'{{"scheduler": ["diffusers", "{type(scheduler).__name__}"]}}')
    return Parts(folder)


@pytest.mark.parametrize("steps", [1, 4, 7, 30])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize(
    "cls", ["DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "LCMScheduler", "CogVideoXDDIMScheduler"]
)
def test_variance_preserving_grids_are_the_schedulers_own(cls, spacing, steps, tmp_path):
    changed = {"CogVideoXDDIMScheduler": {"rescale_betas_zero_snr": True, "snr_shift_scale": 3.0}}.get(cls, {})
    changed |= {"PNDMScheduler": {"skip_prk_steps": True, "set_alpha_to_one": True}}.get(cls, {})
    made = getattr(diffusers, cls)(beta_schedule="scaled_linear", timestep_spacing=spacing, steps_offset=1, **changed)
    grid = schedule_of(on_disk(made, tmp_path)).grid(steps)
    made.set_timesteps(steps)
    expected = made.timesteps.unique().flip(0).float()  # PNDM evaluates some times twice
    if spacing == "linspace" and steps == 1 and cls != "LCMScheduler":
        assert expected.tolist() == [0]  # it starts from the clean end there, which is no use to anyone
        expected = torch.tensor([999.0])
    assert torch.equal(grid.t[:-1], expected)
    kept = made.alphas_cumprod[grid.t[:-1].long()].float()
    torch.testing.assert_close(grid.alpha[:-1], kept.sqrt(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grid.sigma[:-1], (1 - kept).sqrt(), rtol=1e-4, atol=1e-5)
    assert (grid.alpha[-1], grid.sigma[-1]) == (1, 0)


IN_SIGMA = [
    *(
        (cls, options)
        for cls in ("DPMSolverMultistep", "UniPCMultistep", "DEISMultistep", "EulerDiscrete", "EulerAncestralDiscrete")
        for options in ({}, *({"timestep_spacing": s, "steps_offset": 1} for s in ("leading", "trailing", "linspace")))
    ),
    *(
        (cls, {f"use_{name}_sigmas": True})
        for cls in ("DPMSolverMultistep", "UniPCMultistep", "DEISMultistep", "EulerDiscrete")
        for name in ("karras", "exponential")
    ),
    *((cls, {"final_sigmas_type": "sigma_min"}) for cls in ("DPMSolverMultistep", "UniPCMultistep", "EulerDiscrete")),
]


@pytest.mark.parametrize("steps", [1, 5, 30])
@pytest.mark.parametrize(("cls", "options"), IN_SIGMA, ids=str)
def test_grids_in_sigma_are_the_schedulers_own(cls, options, steps, tmp_path):
    kind = getattr(diffusers, f"{cls}Scheduler")
    made = kind(beta_schedule="scaled_linear", **options)
    schedule = schedule_of(on_disk(made, tmp_path))
    made.set_timesteps(steps)
    if made.timesteps[0] == 0:  # Euler's of one step start from the clean end
        if "use_karras_sigmas" in options or "use_exponential_sigmas" in options:
            with pytest.raises(UsageError, match=r"by its option use_.*_sigmas=True are not known"):
                schedule.grid(steps)
        else:
            assert schedule.grid(steps).t.tolist() == [999, 0]
        return
    grid = schedule.grid(steps)
    assert torch.equal(grid.t[:-1], made.timesteps.float())
    torch.testing.assert_close(grid.sigma / grid.alpha, made.sigmas, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(grid.alpha.square() + grid.sigma.square(), torch.ones(steps + 1))


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        ("HeunDiscrete", {"use_karras_sigmas": True}, "HeunDiscreteScheduler: steps by its option use_karras_sigmas="),
        ("EulerDiscrete", {"interpolation_type": "log_linear"}, "option interpolation_type=log_linear are not known"),
        (
            "EulerDiscrete",
            {"timestep_type": "continuous", "prediction_type": "v_prediction"},
            "option timestep_type=continuous are not known",
        ),
        ("LCM", {}, "LCMScheduler: cannot take 60 steps"),
        ("FlowMatchEulerDiscrete", {"use_dynamic_shifting": True}, r"Scheduler: cannot take 60 steps \(.*mu"),
    ],
)
def test_steps_that_are_not_known_are_refused_in_one_line(cls, options, message, tmp_path):
    schedule = schedule_of(on_disk(getattr(diffusers, f"{cls}Scheduler")(**options), tmp_path))
    with pytest.raises(UsageError, match=message) as caught:
        schedule.grid(60)
    assert len(str(caught.value).splitlines()) == 1


def test_a_solver_that_asks_twice_a_step_is_walked_in_even_steps(tmp_path):
    made = diffusers.HeunDiscreteScheduler(beta_schedule="scaled_linear", timestep_spacing="trailing")
    made.set_timesteps(5)
    assert schedule_of(on_disk(made, tmp_path)).grid(5).t[:-1].tolist() == made.timesteps.unique().flip(0).tolist()


@pytest.mark.parametrize("steps", [1, 4, 30])
@pytest.mark.parametrize("shift", [1.0, 3.0, 5.0])
def test_flow_grids_are_the_schedulers_own(steps, shift, tmp_path):
    flow = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    unipc = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=shift, num_train_timesteps=1000
    )
    for name, scheduler in (("flow", flow), ("unipc", unipc)):
        (tmp_path / name).mkdir()
        parts = on_disk(scheduler, tmp_path / name)
        schedule = schedule_of(parts)
        scheduler.set_timesteps(steps)
        grid = schedule.grid(steps)
        assert prediction_of(parts) == "flow"
        torch.testing.assert_close(grid.sigma, scheduler.sigmas.float(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(grid.t[:-1], scheduler.timesteps.float())
        torch.testing.assert_close(grid.alpha + grid.sigma, torch.ones(steps + 1))
        # A training level is one that the model knows: the same shift of evenly spread times.
        u = torch.linspace(0, 1, 11)
        torch.testing.assert_close(schedule.levels_at(u).sigma, shift * u / (1 + (shift - 1) * u))


@pytest.mark.parametrize("sigmas", ["exponential", "karras"])
def test_edm_grids_are_the_schedulers_own(sigmas, tmp_path):
    scheduler = diffusers.CosineDPMSolverMultistepScheduler(
        sigma_min=0.3, sigma_max=500, sigma_data=1.0, sigma_schedule=sigmas, prediction_type="v_prediction"
    )
    parts = on_disk(scheduler, tmp_path)
    grid = schedule_of(parts).grid(6)
    scheduler.set_timesteps(6)
    torch.testing.assert_close(grid.t[:-1], scheduler.timesteps, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grid.sigma / grid.alpha, scheduler.sigmas, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(grid.alpha.square() + grid.sigma.square(), torch.ones(7))
    assert prediction_of(parts) == "v"


@pytest.mark.parametrize("steps", [2, 4, 7, 64])
def test_mochis_grid_is_its_pipelines_own(steps):
    from diffusers.pipelines.mochi.pipeline_mochi import linear_quadratic_schedule

    from mmdisco_diffusers.mochi import linear_quadratic_flow

    grid = linear_quadratic_flow(1000).grid(steps)
    expected = torch.tensor([*linear_quadratic_schedule(steps, 0.025), 0.0])
    torch.testing.assert_close(grid.sigma, expected, rtol=1e-5, atol=1e-6)
    # Training levels have the same spacing, so that index coupling pairs what the sampler pairs.
    even = linear_quadratic_flow(1000).levels_at(torch.linspace(1, 0, steps + 1))
    if steps % 2 == 0:
        torch.testing.assert_close(even.sigma, grid.sigma, rtol=1e-5, atol=1e-6)


def test_mochis_grid_of_one_step_goes_all_the_way():
    from mmdisco_diffusers.mochi import linear_quadratic_flow

    assert linear_quadratic_flow(1000).grid(1).sigma.tolist() == [1, 0]


def test_ltxs_levels_depend_on_the_size(backbone):
    model = backbone("ltx")
    small, large = (model.plan(Request(frames=9, height=side, width=side)) for side in (32, 256))
    half = torch.tensor([0.5])
    assert model.levels_at(half, small).sigma < model.levels_at(half, large).sigma
    assert model.grid(5, small).sigma[-2] == pytest.approx(0.1)  # where the options end its grid


def test_a_grid_may_end_without_noise(backbone):
    plan = backbone("audioldm").plan(Request(seconds=0.32))
    own, clean = (backbone("audioldm", clean_end=end).grid(4, plan) for end in (False, True))
    assert own.sigma[-1] > 0
    assert (clean.alpha[-1], clean.sigma[-1]) == (1, 0)
    assert torch.equal(own.sigma[:-1], clean.sigma[:-1])


def test_what_is_not_known_is_refused(tmp_path):
    for name, scheduler in (
        ("edm", diffusers.EDMEulerScheduler(sigma_data=0.5)),
        ("other", diffusers.ScoreSdeVeScheduler()),
    ):
        (tmp_path / name).mkdir()
        with pytest.raises(UsageError, match=r"not known"):
            schedule_of(on_disk(scheduler, tmp_path / name))
    (tmp_path / "odd").mkdir()
    with pytest.raises(UsageError, match="prediction 'noise' is not known"):
        prediction_of(on_disk(diffusers.DDIMScheduler(prediction_type="noise"), tmp_path / "odd"))


def test_models_of_unlike_schedules_walk_together(backbone):
    bases = [Base(as_joint(m), as_joint(m).plan(Request())) for m in (backbone("audioldm"), backbone("wan"))]
    grid = coupled_grid(bases, 10)
    matched = coupled_grid(bases, 10, Coupling("logsnr"))
    audio, video = (log_snr(matched[m].alpha, matched[m].sigma)[:-1] for m in ("audio", "video"))
    torch.testing.assert_close(audio, video, rtol=1e-3, atol=1e-3)
    assert grid["audio"].t[0] > 900
    assert grid["video"].alpha[0] == 0


def test_a_wan_of_two_transformers_asks_the_one_that_knows_the_level(models, tmp_path):
    from tiny import shake

    from mmdisco_diffusers.options import ModelOptions
    from mmdisco_diffusers.wan import build

    torch.manual_seed(0)
    low, high = shaken(wan_transformer(), shake), shaken(wan_transformer(), shake)
    wan(transformer=high, transformer_2=low, boundary_ratio=0.5).save_pretrained(tmp_path)
    model = build("video", ModelOptions(path=str(tmp_path)), Request())
    plan = model.plan(Request(frames=5, height=16, width=16))
    tokens = model.encode_prompt(["a", "b"], None, plan).positive["tokens"]
    x, t = torch.randn(2, *plan.latent_shape), torch.tensor([900.0, 100.0])
    found = model.predict(x, t, {"tokens": tokens}, plan)
    with torch.no_grad():
        for i, expected in enumerate((high, low)):
            one = expected(hidden_states=x[i : i + 1], timestep=t[i : i + 1], encoder_hidden_states=tokens[i : i + 1])
            assert (found[i] - one.sample[0]).abs().max() < 1e-5


def test_a_time_for_every_token_is_the_same_time(models, tmp_path):
    from mmdisco_diffusers.wan import build

    torch.manual_seed(0)
    wan(expand_timesteps=True).save_pretrained(tmp_path)
    plain = build("video", ModelOptions(path=str(models("wan"))), Request())
    expanded = build("video", ModelOptions(path=str(tmp_path)), Request())
    plan = expanded.plan(Request(frames=5, height=16, width=16))
    for part in ("transformer", "text_encoder"):
        expanded.parts.get(part).load_state_dict(plain.parts.get(part).state_dict())
    x, t = torch.randn(2, *plan.latent_shape), torch.tensor([900.0, 100.0])
    assert (expanded.predict(x, t, None, plan) - plain.predict(x, t, None, plan)).abs().max() < 1e-5


def shaken(module, shake):
    shake(module)
    return module.eval()


@pytest.mark.parametrize("family", BUILDERS)
def test_every_way_to_save_memory_gives_the_same(family, backbone, models):
    options = {"text": "free", "offload": "codec", "chunk": 1}
    if family not in ("stable-audio", "stable-audio-3", "longcat", "ltx", "mochi"):
        options["slicing"] = True
    plain, thrifty = backbone(family), backbone(family, **options)
    request = Request(seconds=0.32, frames=9, height=32, width=32)
    plan = plain.plan(request)
    found, expected = (m.encode_prompt(["a dog", "rain"], None, plan) for m in (thrifty, plain))
    for key, value in expected.positive.items():
        torch.testing.assert_close(found.positive[key], value, rtol=1e-4, atol=1e-5)
    assert not any(thrifty.parts.is_loaded(name) for name in thrifty.family.roles.text)
    latent = torch.randn(2, *plan.latent_shape)
    once, again = plain.decode(latent, plan), thrifty.decode(latent, plan)
    assert (once - again).abs().max() < 1e-4
    assert (plain.encode(once, plan) - thrifty.encode(once, plan)).abs().max() < 1e-3


def test_half_the_bytes_give_nearly_the_same(backbone):
    plain, half = backbone("wan"), backbone("wan", dtype="bfloat16", tiling=True)
    plan = plain.plan(Request(frames=5, height=16, width=16))
    x, t = torch.randn(2, *plan.latent_shape), torch.tensor([900.0, 100.0])
    found, expected = (m.predict(x, t, None, plan) for m in (half, plain))
    assert half.parts.get("transformer").dtype == torch.bfloat16
    assert found.dtype == torch.float32
    assert 0 < (found - expected).abs().max() < 0.1 * expected.abs().max()
    assert half.decode(x, plan).shape == (2, 3, 5, 16, 16)


def test_the_memory_plan_adds_up(models):
    parts = Parts(models("wan"), dtypes={"transformer": torch.bfloat16, "text_encoder": torch.bfloat16})
    from mmdisco_diffusers.wan import ROLES

    sizes = {name: parts.count([name]) for name in ("transformer", "vae", "text_encoder")}
    megabytes = {"transformer": 2 * sizes["transformer"], "vae": 4 * sizes["vae"], "text": 2 * sizes["text_encoder"]}

    def last(**chosen):
        return memory_lines(parts, ROLES, ModelOptions(dtype="bfloat16", **chosen))[-1]

    def said(staying, visiting):
        return f"weights on the device: {staying / 1e6:.2f} MB, at most {(staying + visiting) / 1e6:.2f} MB at a time"

    both = megabytes["transformer"] + megabytes["vae"]
    assert last().startswith(said(both, megabytes["text"]))
    assert last(text="keep").startswith(said(both + megabytes["text"], 0))
    larger = max(megabytes["vae"], megabytes["text"])
    assert last(offload="codec").startswith(said(megabytes["transformer"], larger))
    assert last(offload="group").startswith(said(0, larger))
    lines = memory_lines(parts, ROLES, ModelOptions(offload="group", text="free", tiling=True))
    assert "transformer: " in lines[0]
    assert "block by block" in lines[0]
    assert "tiling" in lines[1]
    assert "freed" in lines[2]
