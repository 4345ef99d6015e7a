"""The samplers against the final states that the authors' loops reached, and their noise from one generator."""

import pytest
import torch
from released_weights import distance, drawn, vectors

from mmdisco_cli.diffusion.denoise import Prediction, threshold
from mmdisco_cli.diffusion.noise import GeneratorNoise
from mmdisco_cli.diffusion.prediction import add_noise, to_x0_eps
from mmdisco_cli.diffusion.samplers import ddpm, dpm_3s, dpmpp_3s, renoised, sampler_of, singlestep_orders
from mmdisco_cli.diffusion.schedules import (
    Levels,
    betas_linear,
    discrete_vp,
    log_snr,
    log_snr_grid,
    make_schedule,
    trained_schedule,
)

TOLERANCE = 1e-4
SCHEDULES = {"audioldm": "vp-audioldm", "animatediff": "vp-scaled-linear", "videocrafter": "vp-videocrafter2"}


def denoiser(distribution, kept):
    """Return the epsilon of a Gaussian at whole times, as the vectors were made with it."""

    def denoise(state, levels):
        x0, epsilon = {}, {}
        for m, x in state.items():
            a, s = kept[levels[m].t.long()].sqrt(), (1 - kept[levels[m].t.long()]).sqrt()
            epsilon[m] = s * x if distribution == "unit" else s * (x - 0.3 * a) / (0.25 * a**2 + s**2)
            x0[m] = to_x0_eps(epsilon[m], x, levels[m].alpha, levels[m].sigma, "epsilon")[0]
        return Prediction(x0, epsilon)

    return denoise


@pytest.mark.parametrize("distribution", ["unit", "gauss_m0.3_s0.5"])
@pytest.mark.parametrize("variant", ["x0_thresh", "x0_nothresh", "noise"])
def test_the_singlestep_solvers_end_where_the_released_ones_do(distribution, variant):
    known = vectors("sampling")
    grid = dict.fromkeys(("audio", "video"), log_snr_grid(betas_linear(), 20))
    start = {"audio": drawn("input.x_T.audio", (2, 1, 400)), "video": drawn("input.x_T.video", (2, 4, 3, 8, 8))}
    denoise = denoiser(distribution, (1 - betas_linear()).cumprod(0).float())
    sampler = dpm_3s if variant == "noise" else dpmpp_3s
    times = []
    end = sampler(
        threshold(denoise) if variant == "x0_thresh" else denoise, start, grid,
        callback=lambda step, state, prediction: times.append(int(grid["audio"].t[step])),
    )  # fmt: skip
    assert times == known[f"dpm.{distribution}.{variant}.calls.t_int"].tolist()
    assert singlestep_orders(grid) == known["dpm.orders"].tolist()
    for m, state in end.items():
        assert distance(state, known[f"dpm.{distribution}.{variant}.{m}"]) < TOLERANCE


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("noise", ["zeronoise", "seed803"])
def test_fifty_ancestral_steps_end_where_the_released_ones_do(name, noise):
    known, schedule = vectors("sampling"), make_schedule(SCHEDULES[name])
    grid = schedule.grid(50)
    assert grid.t[:-1].tolist() == known[f"ddpm.{name}.timesteps"].tolist()
    kept = schedule.levels_at(torch.arange(1000) / 999).alpha.double().square()
    one = GeneratorNoise(torch.Generator().manual_seed(803), ["x"])
    none = lambda step, state: {"x": torch.zeros_like(state["x"])}  # noqa: E731
    fresh = one if noise == "seed803" else none
    end = ddpm(denoiser("gauss", kept.float()), {"x": drawn("input.ddpm", (2, 4, 6, 5))}, {"x": grid}, fresh)
    assert distance(end["x"], known[f"ddpm.{name}.{noise}.final"]) < TOLERANCE


@pytest.mark.parametrize("name", SCHEDULES)
def test_one_step_back_and_forth_is_the_released_one(name):
    known, schedule = vectors("sampling"), make_schedule(SCHEDULES[name])
    x, epsilon = drawn("input.ddpm.sample", (4, 4, 6, 5)), drawn("input.ddpm.eps", (4, 4, 6, 5))
    fresh = torch.randn(x.shape, generator=torch.Generator().manual_seed(803))
    for row, t in enumerate((981, 501, 21, 1)):
        state, noise, grid = {"x": x[[row]]}, {"x": fresh[[row]]}, {"x": pair(schedule, t)}

        def denoise(state, levels, row=row):
            x0, eps = to_x0_eps(epsilon[[row]], state["x"], levels["x"].alpha, levels["x"].sigma, "epsilon")
            return Prediction({"x": x0}, {"x": eps})

        found = {
            "step803.prev": ddpm(denoise, state, grid, lambda step, state, noise=noise: noise)["x"],
            "rev803": renoised(state, grid, 0, noise)["x"],
            "add_noise": add_noise(x[[row]], epsilon[[row]], grid["x"].alpha[0], grid["x"].sigma[0]),
        }
        for what, value in found.items():
            assert distance(value, known[f"ddpm.{name}.{what}"][[row]]) < TOLERANCE, (what, t)


def test_a_repeated_step_begins_where_the_forward_process_leads():
    grid, calls = {"x": make_schedule("vp-audioldm").grid(3)}, []
    noises = iter(torch.randn(3 * 3, 1, 5, generator=torch.Generator().manual_seed(0)))
    model, drawn_noise = denoiser("gauss", (1 - betas_linear()).cumprod(0).float()), []

    def noise(step, state):
        drawn_noise.append({"x": next(noises)})
        return drawn_noise[-1]

    sampler_of("ddpm", 2)(
        model, {"x": torch.ones(1, 5)}, grid, noise, lambda step, state, _: calls.append((step, state))
    )
    assert [step for step, _ in calls] == [0, 0, 1, 1, 2, 2]
    for step in range(3):
        here = {"x": Levels(*(value[step : step + 2] for value in grid["x"]))}
        stepped = ddpm(model, calls[2 * step][1], here, lambda _, state, k=step: drawn_noise[3 * k])
        again = renoised(stepped, here, 0, drawn_noise[3 * step + 1])
        torch.testing.assert_close(calls[2 * step + 1][1]["x"], again["x"])


def pair(schedule, t):
    """Return the levels of one of fifty steps: a whole time, and the one 20 before, or the data."""
    here = schedule.levels_at(torch.tensor([t / 999], dtype=torch.float64))
    if t < 20:
        return Levels(here.t.repeat(2), torch.cat([here.alpha, torch.ones(1)]), torch.cat([here.sigma, torch.zeros(1)]))
    there = schedule.levels_at(torch.tensor([(t - 20) / 999], dtype=torch.float64))
    return Levels(*(torch.cat(both) for both in zip(here, there, strict=True)))


def test_the_generator_is_asked_modality_by_modality_in_the_callers_axes():
    state = {"video": torch.zeros(2, 3, 4, 5, 5), "audio": torch.zeros(2, 3, 7, 6)}
    noise = GeneratorNoise(torch.Generator().manual_seed(1), ["audio", "video"], {"audio": (0, 1, 3, 2)})(0, state)
    generator = torch.Generator().manual_seed(1)
    assert torch.equal(noise["audio"], torch.randn(2, 3, 6, 7, generator=generator).transpose(2, 3))
    assert torch.equal(noise["video"], torch.randn(2, 3, 4, 5, 5, generator=generator))


def test_a_grid_even_in_log_snr_of_any_length():
    for steps in (1, 7, 100):
        grid = trained_schedule("vp-linear", "logsnr").grid(steps)
        rises = log_snr(grid.alpha, grid.sigma).diff()
        torch.testing.assert_close(rises, rises.mean().expand(steps), rtol=1e-3, atol=1e-4)
        assert grid.t[[0, -1]].tolist() == [999, 0]
        known = make_schedule("vp-linear").levels_at(grid.t.double() / 999)
        assert (log_snr(known.alpha, known.sigma) >= log_snr(grid.alpha, grid.sigma) - 1e-3).all()
    with pytest.raises(ValueError, match="steps must lie between"):
        discrete_vp(betas_linear(), "logsnr").grid(0)


def test_every_joint_step_draws_noise_of_its_own_number():
    numbers = []

    def noise(step, state):
        numbers.append(step)
        return {"x": torch.zeros_like(state["x"])}

    grid = {"x": make_schedule("vp-linear").grid(5)}
    sampler_of("ddpm", 3)(
        denoiser("unit", (1 - betas_linear()).cumprod(0).float()), {"x": torch.ones(1, 2)}, grid, noise
    )
    assert len(numbers) == len(set(numbers)) == 5 * (3 + 2)
    assert [n for n in numbers if n < 5] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"joint_steps above 1 .* not dpmpp_2m"):
        sampler_of("dpmpp_2m", 2)
