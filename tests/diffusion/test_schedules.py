import pytest
import torch
from diffusion_oracles import DDIMScheduler, DDPMScheduler, EDMEulerScheduler, FlowMatchEulerDiscreteScheduler

from mmdisco_cli.diffusion.schedules import (
    SCHEDULES,
    betas_cosine,
    betas_linear,
    betas_scaled_linear,
    discrete_vp,
    edm,
    flow,
    log_snr,
    make_schedule,
    spaced_times,
)

BETAS = {
    "linear": (betas_linear(1e-4, 0.02), {"beta_start": 1e-4, "beta_end": 0.02}),
    "scaled_linear": (betas_scaled_linear(0.00085, 0.012), {"beta_start": 0.00085, "beta_end": 0.012}),
    "squaredcos_cap_v2": (betas_cosine(), {}),
}


@pytest.mark.parametrize("name", BETAS)
def test_discrete_levels_are_those_of_diffusers(name: str) -> None:
    betas, options = BETAS[name]
    expected = DDPMScheduler(beta_schedule=name, **options)
    levels = discrete_vp(betas).levels_at(torch.linspace(0, 1, 1000))
    torch.testing.assert_close(betas.float(), expected.betas, rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(levels.alpha**2, expected.alphas_cumprod, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(levels.sigma**2, 1 - expected.alphas_cumprod, rtol=1e-3, atol=1e-6)
    assert levels.t.tolist() == list(range(1000))


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("steps", [2, 7, 20, 50, 333, 1000])
def test_discrete_times_are_those_of_diffusers(spacing: str, steps: int) -> None:
    scheduler = DDIMScheduler(timestep_spacing=spacing)
    scheduler.set_timesteps(steps)
    assert spaced_times(steps, 1000, spacing).tolist() == scheduler.timesteps.tolist()


def test_leading_times_take_an_offset() -> None:
    scheduler = DDIMScheduler(timestep_spacing="leading", steps_offset=1)
    scheduler.set_timesteps(50)
    assert spaced_times(50, 1000, "leading", 1).tolist() == scheduler.timesteps.tolist()


def test_a_discrete_grid_ends_at_zero_or_at_the_first_trained_level() -> None:
    at_zero, at_first = (discrete_vp(betas_linear(), end_at_zero=end).grid(10) for end in (True, False))
    assert (at_zero.alpha[-1], at_zero.sigma[-1]) == (1, 0)
    assert at_first.sigma[-1] ** 2 == pytest.approx(1e-4)
    assert torch.equal(at_zero.t[:-1], at_first.t[:-1])


@pytest.mark.parametrize("shift", [1.0, 3.0])
@pytest.mark.parametrize("steps", [1, 4, 25])
def test_flow_grids_are_those_of_diffusers(shift: float, steps: int) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(steps)
    if steps > 1:
        torch.testing.assert_close(flow(shift, "linspace").grid(steps).sigma, scheduler.sigmas)
    scheduler.set_timesteps(sigmas=torch.linspace(1, 1 / steps, steps).tolist())
    grid = flow(shift).grid(steps)
    torch.testing.assert_close(grid.sigma, scheduler.sigmas)
    torch.testing.assert_close(grid.t[:-1], scheduler.timesteps)
    torch.testing.assert_close(grid.alpha, 1 - scheduler.sigmas)


def test_edm_is_that_of_diffusers() -> None:
    scheduler = EDMEulerScheduler(sigma_min=0.01, sigma_max=50.0, rho=5.0)
    scheduler.set_timesteps(18)
    grid = edm(0.01, 50.0, 5.0).grid(18)
    torch.testing.assert_close(grid.sigma, scheduler.sigmas.float(), rtol=1e-4, atol=0)
    torch.testing.assert_close(grid.t[:-1], scheduler.timesteps.float(), rtol=1e-4, atol=1e-5)


def test_cosine_has_exact_ends() -> None:
    levels = make_schedule("cosine").levels_at(torch.tensor([0.0, 0.5, 1.0]))
    assert levels.alpha[[0, 2]].tolist() == [1, 0]
    assert levels.sigma[[0, 2]].tolist() == [0, 1]
    torch.testing.assert_close(levels.alpha[1], torch.tensor(0.5).sqrt())


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_falls_monotonically_in_float32(name: str) -> None:
    schedule = make_schedule(name)
    levels, grid = schedule.levels_at(torch.linspace(0, 1, 777)), schedule.grid(13)
    for group in (levels, grid):
        assert {value.dtype for value in group} == {torch.float32}
        assert len({value.shape for value in group}) == 1
        assert all(value.isfinite().all() for value in (*group, log_snr(group.alpha, group.sigma)))
    assert (log_snr(levels.alpha, levels.sigma).diff() <= 0).all()
    assert (log_snr(grid.alpha, grid.sigma).diff() > 0).all()
    assert len(grid.t) == 14
    assert (grid.alpha[-1], grid.sigma[-1]) == (1, 0)
    if name != "flow" and name != "edm":
        torch.testing.assert_close(levels.alpha**2 + levels.sigma**2, torch.ones(777))


def test_wrong_names_and_steps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown schedule 'cosin' \(one of cosine, "):
        make_schedule("cosin")
    with pytest.raises(ValueError, match="unknown spacing 'even'"):
        discrete_vp(betas_linear(), spacing="even").grid(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown spacing 'leading'"):
        flow(spacing="leading")  # type: ignore[arg-type]
    for schedule in map(make_schedule, SCHEDULES):
        with pytest.raises(ValueError, match="steps must lie between"):
            schedule.grid(0)
    with pytest.raises(ValueError, match="between 1 and 1000, not 1001"):
        make_schedule("vp-linear").grid(1001)
