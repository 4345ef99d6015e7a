"""Every sampler against diffusers' schedulers and against Gaussians, whose probability flow has a closed form."""

import hashlib
import math
from collections.abc import Callable, Mapping

import pytest
import torch
from diffusion_oracles import (
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    FlowMatchEulerDiscreteScheduler,
    JointGaussian,
    vp_grid,
    white,
)
from torch import Tensor

from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.diffusion.denoise import Denoiser, Given, Prediction, threshold, with_given
from mmdisco_cli.diffusion.guidance import Guidance, guide
from mmdisco_cli.diffusion.noise import StepNoise
from mmdisco_cli.diffusion.prediction import PredictionType, to_x0_eps
from mmdisco_cli.diffusion.samplers import (
    SAMPLERS,
    Sampler,
    ddim,
    ddpm,
    dpmpp_2m,
    dpmpp_3s,
    sampler_of,
    singlestep_orders,
)
from mmdisco_cli.diffusion.schedules import Levels, betas_linear, cosine, discrete_vp, flow, log_snr, make_schedule

START = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
DIFFUSERS_NAMES = {"epsilon": "epsilon", "sample": "sample", "v": "v_prediction"}
PAIR = JointGaussian("av", [0.5, -0.3], [[1.0, 0.6], [0.6, 0.8]])
NOISE = StepNoise(0, range(2))


def _network(x: Tensor, t: Tensor | float) -> Tensor:
    """Be any smooth non-linear function of the state and its native time."""
    return 0.8 * torch.tanh(1.5 * x + 0.3) + 0.2 * torch.sin(torch.as_tensor(t) / 300) * x.flip(-1)


def _denoiser(prediction: PredictionType) -> Denoiser:
    def denoise(state: State, levels: Mapping[str, Levels]) -> Prediction:
        level, x = levels["x"], state["x"]
        x0, eps = to_x0_eps(_network(x, level.t), x, level.alpha, level.sigma, prediction)
        return Prediction({"x": x0}, {"x": eps})

    return denoise


def _walk(sampler: Sampler, prediction: PredictionType, levels: Levels) -> list[Tensor]:
    """Return the states that the denoiser was evaluated at, and the last."""
    seen: list[Tensor] = []
    last = sampler(
        _denoiser(prediction), {"x": START}, {"x": levels}, NOISE, lambda step, state, _: seen.append(state["x"])
    )
    return [*seen, last["x"]]


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v"])
@pytest.mark.parametrize(("spacing", "end_at_zero"), [("leading", True), ("leading", False), ("trailing", True)])
def test_ddim_is_that_of_diffusers(prediction: PredictionType, spacing: str, end_at_zero: bool) -> None:
    scheduler = DDIMScheduler(
        prediction_type=DIFFUSERS_NAMES[prediction],
        timestep_spacing=spacing,
        clip_sample=False,
        set_alpha_to_one=end_at_zero,
    )
    scheduler.set_timesteps(20)
    x, expected = START, [START]
    for t in scheduler.timesteps:
        x = scheduler.step(_network(x, t), t, x).prev_sample
        expected.append(x)
    schedule = discrete_vp(betas_linear(), spacing, end_at_zero=end_at_zero)
    torch.testing.assert_close(_walk(ddim, prediction, schedule.grid(20)), expected, rtol=1e-3, atol=1e-4)


def _ddpm_of_diffusers(scheduler: DDPMScheduler, monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Walk diffusers' scheduler with the keyed noise of each step in place of its own."""
    x, expected = START, [START]
    for step, t in enumerate(scheduler.timesteps):
        fresh = NOISE(step, {"x": START})["x"]
        monkeypatch.setattr("diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, fresh=fresh, **__: fresh)
        x = scheduler.step(_network(x, t), t, x).prev_sample
        expected.append(x)
    return expected


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("steps", [10, 200])
def test_ddpm_is_that_of_diffusers(variance: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = DDPMScheduler(variance_type=f"fixed_{variance}", clip_sample=False, num_train_timesteps=200)
    scheduler.set_timesteps(steps)

    def sampler(*args: object) -> State:
        return ddpm(*args, variance=variance)  # type: ignore[arg-type]

    levels = discrete_vp(betas_linear(train_steps=200)).grid(steps)
    expected = _ddpm_of_diffusers(scheduler, monkeypatch)
    torch.testing.assert_close(_walk(sampler, "epsilon", levels), expected, rtol=1e-3, atol=1e-3)


def test_ddpm_is_ddim_with_eta_1() -> None:
    scheduler = DDIMScheduler(clip_sample=False, timestep_spacing="trailing", prediction_type="v_prediction")
    scheduler.set_timesteps(25)
    x = START
    for step, t in enumerate(scheduler.timesteps):
        fresh = NOISE(step, {"x": START})["x"]
        x = scheduler.step(_network(x, t), t, x, eta=1.0, variance_noise=fresh).prev_sample
    levels = discrete_vp(betas_linear(), "trailing").grid(25)
    torch.testing.assert_close(_walk(ddpm, "v", levels)[-1], x, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers beside NumPy 2
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v"])
@pytest.mark.parametrize("steps", [1, 2, 20])
def test_dpmpp_2m_is_that_of_diffusers(prediction: PredictionType, steps: int) -> None:
    scheduler = DPMSolverMultistepScheduler(
        prediction_type=DIFFUSERS_NAMES[prediction], timestep_spacing="trailing", solver_order=2
    )
    scheduler.set_timesteps(steps)
    x, expected = START, [START]
    for t in scheduler.timesteps:
        x = scheduler.step(_network(x, t), t, x).prev_sample
        expected.append(x)
    levels = discrete_vp(betas_linear(), "trailing").grid(steps)
    torch.testing.assert_close(_walk(dpmpp_2m, prediction, levels), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers beside NumPy 2
@pytest.mark.parametrize("steps", [6, 8, 10])
def test_dpmpp_3s_is_made_of_the_updates_of_diffusers(steps: int) -> None:
    scheduler = DPMSolverSinglestepScheduler(solver_order=3, lower_order_final=True)
    scheduler.set_timesteps(steps)
    expected = [START]
    x = START
    for i, t in enumerate(scheduler.timesteps):
        # diffusers takes one rule for all; the paper's third order has the exact slope inside and the other outside
        inside = scheduler.order_list[i] == 2 and i + 1 < steps and scheduler.order_list[i + 1] == 3
        scheduler.register_to_config(solver_type="heun" if inside else "midpoint")
        x = scheduler.step(_network(x, t), t, x).prev_sample
        expected.append(x)
    alpha = (1 + scheduler.sigmas**2).rsqrt()
    levels = Levels(torch.cat([scheduler.timesteps, torch.zeros(1)]), alpha, alpha * scheduler.sigmas)
    torch.testing.assert_close(_walk(dpmpp_3s, "epsilon", levels), expected, rtol=1e-3, atol=1e-4)


# The norm of the states that MM-Diffusion's solver evaluates, measured on the released MMDisCo code (20 evaluations,
# thresholding, epsilon of the Gaussian N(0.3, 0.5^2), start (2, 4, 3, 8, 8) from the key "input.x_T.video").
MMDIFFUSION_NORMS = """39.87926102 39.88012314 39.88080597 39.87942123 39.86993790 39.84131622 39.75192642 39.48291779
38.85641861 37.36757660 34.28165436 30.67600060 26.73300743 22.62122726 19.47105217 17.34346581 15.97562027 15.10695076
14.56576061 14.23068810"""


def test_dpmpp_3s_with_thresholding_is_the_solver_of_mmdiffusion() -> None:
    seed = int.from_bytes(hashlib.sha256(b"input.x_T.video").digest()[:8], "little") % 2**63
    start = torch.randn(2, 4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    kept = (1 - betas_linear()).cumprod(0)
    times, log_alphas = torch.arange(1, 1001).double() / 1000, kept.log() / 2
    lams = log_alphas - torch.log1p(-kept) / 2
    lam = torch.linspace(lams[-1].item(), lams[0].item(), 21, dtype=torch.float64)
    alpha, sigma = torch.sigmoid(2 * lam).sqrt(), torch.sigmoid(-2 * lam).sqrt()
    # The solver's own time, linear in log alpha between the trained ones.
    right = torch.searchsorted(-log_alphas, -alpha.log()).clamp(1, 999)
    part = (alpha.log() - log_alphas[right - 1]) / (log_alphas[right] - log_alphas[right - 1])
    index = (1000 * torch.lerp(times[right - 1], times[right], part) - 1 + 1e-3).long()

    def denoise(state: State, levels: Mapping[str, Levels]) -> Prediction:
        x, level = state["x"], levels["x"]
        trained = kept[level.t.long()].float()
        eps = (1 - trained).sqrt() * (x - 0.3 * trained.sqrt()) / (0.25 * trained + 1 - trained)
        return Prediction({"x": to_x0_eps(eps, x, level.alpha, level.sigma, "epsilon")[0]}, {"x": eps})

    norms: list[float] = []
    grid = {"x": Levels(index.float(), alpha.float(), sigma.float())}
    assert singlestep_orders(grid) == [3, 3, 3, 3, 3, 3, 2]
    dpmpp_3s(threshold(denoise), {"x": start}, grid, None, lambda _, state, __: norms.append(state["x"].norm().item()))
    assert index[:-1].tolist() == [
        999, 949, 898, 843, 784, 721, 652, 576, 492, 399, 302, 211, 138, 85, 51, 30, 16, 8, 3, 1
    ]  # fmt: skip
    assert norms == pytest.approx([float(value) for value in MMDIFFUSION_NORMS.split()], rel=2e-4)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_ddim_on_a_flow_is_eulers_method_of_diffusers(shift: float) -> None:
    scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(12)
    x, expected = START, [START]
    for t in scheduler.timesteps:
        x = scheduler.step(_network(x, t), t, x).prev_sample
        expected.append(x)
    torch.testing.assert_close(_walk(ddim, "flow", flow(shift, "linspace").grid(12)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (dpmpp_2m, 2), (dpmpp_3s, 3)])
def test_the_order_of_convergence_on_a_gaussian(sampler: Sampler, order: int) -> None:
    gaussian = JointGaussian("x", [0.3], [[0.25]])

    def error(steps: int) -> float:
        grid = {"x": vp_grid(-3, 3, steps)}
        ends = [gaussian.noisy({"x": grid["x"].at(i)}) for i in (0, steps)]
        x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]
        # The probability flow of a Gaussian keeps the standard score of a point.
        exact = ends[1][0] + (x - ends[0][0]) * (ends[1][1] / ends[0][1]).sqrt()
        return (sampler(gaussian.denoiser(), {"x": x}, grid)["x"] - exact).abs().max().item()

    coarse, fine = error(191), error(383)  # both leave 2 over when divided by 3: 3S then ends with a step of order 2
    assert math.log2(coarse / fine) == pytest.approx(order, abs=0.2)


GRIDS: dict[str, Callable[[int], dict[str, Levels]]] = {
    "alike": lambda n: {m: make_schedule("cosine").grid(n) for m in "av"},
    "unlike": lambda n: {"a": make_schedule("cosine").grid(n), "v": flow(2.0).grid(n)},
    "edm": lambda n: {"a": make_schedule("edm").grid(n), "v": discrete_vp(betas_linear(), "trailing").grid(n)},
}


def _start(grid: Mapping[str, Levels], n: int) -> State:
    return {m: x * torch.hypot(grid[m].alpha[0], grid[m].sigma[0]) for m, x in white("av", n).items()}


def _moments(state: State) -> tuple[Tensor, Tensor]:
    x = torch.cat([state["a"], state["v"]], 1)
    return x.mean(0), torch.cov(x.T)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", ["ddim", "dpmpp_2m", "dpmpp_3s"])
def test_a_joint_gaussian_is_sampled_with_its_moments(name: str, grid: str) -> None:
    levels = GRIDS[grid](400 if name == "ddim" else 80)
    mean, cov = _moments(SAMPLERS[name](PAIR.denoiser(), _start(levels, 500), levels))
    tolerance = 0.03 if name == "ddim" else 0.01
    torch.testing.assert_close(mean, PAIR.mean, rtol=0, atol=tolerance)
    torch.testing.assert_close(cov, PAIR.cov, rtol=0, atol=tolerance)


def _fresh(generator: torch.Generator) -> Callable[[int, State], State]:
    return lambda _, state: {m: torch.randn(x.shape, generator=generator, dtype=x.dtype) for m, x in state.items()}


def test_ancestral_samples_have_the_moments_too() -> None:
    levels, n = GRIDS["unlike"](200), 40_000
    noise = _fresh(torch.Generator().manual_seed(0))
    mean, cov = _moments(ddpm(PAIR.denoiser(), _start(levels, n), levels, noise))
    torch.testing.assert_close(mean, PAIR.mean, rtol=0, atol=0.03)
    torch.testing.assert_close(cov, PAIR.cov, rtol=0, atol=0.03)


@pytest.mark.parametrize("name", ["dpmpp_2m", "dpmpp_3s"])
def test_guided_independent_models_reach_the_joint_distribution(name: str) -> None:
    product, levels = PAIR.independent(), GRIDS["unlike"](80)

    def guided(state: State, here: Mapping[str, Levels]) -> Prediction:
        def log_ratio(x: Mapping[str, Tensor], lam: Mapping[str, Tensor], pooled: object) -> Tensor:
            raw = {m: s * torch.hypot(here[m].alpha, here[m].sigma) for m, s in x.items()}
            return PAIR.log_prob(raw, here) - product.log_prob(raw, here)

        base = product.denoiser()(state, here)
        windows = dict.fromkeys("av", (-9.0, 9.0))
        return Prediction(*guide(Guidance(log_ratio, windows=windows), state, base.x0, base.epsilon, here))

    start = _start(levels, 200)
    _, alone = _moments(SAMPLERS[name](product.denoiser(), start, levels))
    mean, cov = _moments(SAMPLERS[name](guided, start, levels))
    torch.testing.assert_close(alone, product.cov, rtol=0, atol=0.01)
    torch.testing.assert_close(mean, PAIR.mean, rtol=0, atol=0.01)
    torch.testing.assert_close(cov, PAIR.cov, rtol=0, atol=0.01)


CLEAN = Levels(torch.tensor(0.0), torch.tensor(1.0), torch.tensor(1e-3))


@pytest.mark.parametrize("name", ["dpmpp_2m", "dpmpp_3s"])
def test_a_modality_given_clean_conditions_the_other(name: str) -> None:
    levels, start = GRIDS["unlike"](80), white("av", 300)
    for value in (-1.0, 2.0):
        clean = {"v": torch.full_like(start["v"], value)}
        given = Given(clean, {"v": torch.zeros_like(start["v"])}, {"v": CLEAN})
        end = SAMPLERS[name](with_given(PAIR.denoiser(), given), start, levels)
        slope = PAIR.cov[0, 1] / PAIR.cov[1, 1]
        torch.testing.assert_close(end["a"].mean(), PAIR.mean[0] + slope * (value - PAIR.mean[1]), rtol=0, atol=0.01)
        torch.testing.assert_close(end["a"].var(), PAIR.cov[0, 0] - slope * PAIR.cov[0, 1], rtol=0, atol=0.01)


def test_a_modality_given_under_noise_conditions_less() -> None:
    """At the sampler's own level it still guides, but less than the conditional, which is integrated independently."""
    levels, start, value = {m: vp_grid(-4, 4, 400) for m in "av"}, white("av", 300), 2.0
    unit = JointGaussian("av", [0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]])
    given = Given({"v": torch.full_like(start["v"], value)}, {"v": start["v"]})
    end = dpmpp_2m(with_given(unit.denoiser(), given), start, levels)
    # With unit variances and alpha^2 = k: d mean / d lambda = (1 - k) (mean + E[score]), E[v_u] = sqrt(k) * value
    mean, points = 0.0, 100_000
    step = 8 / points
    for lam in torch.linspace(-4, 4, points, dtype=torch.float64).tolist():
        k = 1 / (1 + math.exp(-2 * lam))
        score = -(mean - 0.8 * k * math.sqrt(k) * value) / (1 - (0.8 * k) ** 2)
        mean += step * (1 - k) * (mean + score)
    assert end["a"].mean().item() == pytest.approx(mean, abs=0.01)
    assert 0.2 * value < mean < 0.5 * value


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_given_modality_ends_as_given(name: str) -> None:
    levels, start = GRIDS["unlike"](10), white("av", 50)
    clean = {"v": torch.linspace(-1, 1, 50, dtype=torch.float64)[:, None]}
    end = SAMPLERS[name](
        with_given(PAIR.denoiser(), Given(clean, {"v": start["v"]})),
        start,
        levels,
        _fresh(torch.Generator().manual_seed(0)),
    )
    torch.testing.assert_close(end["v"], clean["v"])
    assert end["a"].isfinite().all()


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 9])
def test_every_sampler_asks_once_an_interval_and_is_finite_from_end_to_end(name: str, grid: str, steps: int) -> None:
    levels, requested = GRIDS[grid](steps), []
    end = SAMPLERS[name](
        PAIR.denoiser(),
        _start(levels, 20),
        levels,
        _fresh(torch.Generator().manual_seed(0)),
        lambda step, _, __: requested.append(step),
    )
    assert requested == list(range(steps))
    assert all(x.isfinite().all() for x in end.values())


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_level_that_repeats_does_no_harm(name: str) -> None:
    once = vp_grid(-3, 3, 9)
    twice = Levels(*(torch.cat([value[:4], value[3:]]) for value in once))
    start = {"x": torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None]}
    gaussian, noise = JointGaussian("x", [0.3], [[0.25]]), _fresh(torch.Generator().manual_seed(0))
    assert SAMPLERS[name](gaussian.denoiser(), start, {"x": twice}, noise)["x"].isfinite().all()


def test_a_sample_does_not_depend_on_its_batch() -> None:
    levels, start = GRIDS["unlike"](10), {m: x.float() for m, x in white("av", 6).items()}
    whole = ddpm(PAIR.denoiser(), start, levels, StepNoise(0, range(6)))
    part = ddpm(PAIR.denoiser(), {m: x[[1, 4]] for m, x in start.items()}, levels, StepNoise(0, [1, 4]))
    for m in "av":
        torch.testing.assert_close(part[m], whole[m][[1, 4]])


def test_misuse_is_refused() -> None:
    levels = GRIDS["alike"](3)
    with pytest.raises(ValueError, match="ddpm needs fresh noise"):
        ddpm(PAIR.denoiser(), white("av", 2 + 1), levels)
    with pytest.raises(ValueError, match=r"differ in length: \{'a': 4, 'v': 5\}"):
        ddim(PAIR.denoiser(), white("av", 3), {**levels, "v": flow().grid(4)})


def test_no_graph_grows_over_the_steps() -> None:
    weight = torch.ones(1, requires_grad=True)

    def denoise(state: State, levels: Mapping[str, Levels]) -> Prediction:
        return Prediction({"x": weight * state["x"]}, {"x": weight * state["x"]})

    for sampler in SAMPLERS.values():
        assert not sampler(denoise, {"x": START}, {"x": flow().grid(5)}, NOISE)["x"].requires_grad


def exact_gaussian(requested):
    """Return the denoiser of x_0 ~ N(0, 1) on a variance-preserving schedule, noting the steps that ask."""

    def denoise(state, levels):
        requested.append(float(log_snr(levels["x"].alpha, levels["x"].sigma)))
        return Prediction({"x": levels["x"].alpha * state["x"]}, {"x": levels["x"].sigma * state["x"]})

    return denoise


@pytest.mark.parametrize("name", ["ddim", "ddpm"])
def test_steps_inside_the_window_are_taken_again_and_keep_the_distribution(name):
    """Noising again by the forward process is exact: a unit Gaussian stays one, and only steps inside repeat."""
    generator, requested, window = torch.Generator().manual_seed(0), [], (-2.0, 1.0)

    def noise(_, state):
        return {"x": torch.randn(state["x"].shape, generator=generator)}

    start = {"x": torch.randn(100_000, 1, generator=generator)}
    grid = {"x": cosine().grid(400)}
    end = sampler_of(name, 3, window)(exact_gaussian(requested), start, grid, noise)["x"]
    assert float(end.mean()) == pytest.approx(0, abs=0.015)
    assert float(end.std()) == pytest.approx(1, abs=0.01)
    levels = [float(v) for v in log_snr(grid["x"].alpha, grid["x"].sigma)[:-1]]
    assert sorted(requested) == sorted(v for v in levels for _ in range(3 if window[0] <= v <= window[1] else 1))


def test_ddim_outside_its_window_is_ddim():
    state, grid = {"x": torch.linspace(-2, 2, 9)[:, None]}, {"x": cosine().grid(10)}
    numbers = []

    def noise(number, state):
        numbers.append(number)
        return {"x": torch.zeros_like(state["x"])}

    plain = ddim(exact_gaussian([]), state, grid)["x"]
    assert torch.equal(sampler_of("ddim", 2, (50.0, 60.0))(exact_gaussian([]), state, grid, noise)["x"], plain)
    assert not numbers
    with pytest.raises(ValueError, match="fresh noise"):
        sampler_of("ddim", 2)(exact_gaussian([]), state, grid)
