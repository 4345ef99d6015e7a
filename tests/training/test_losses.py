"""Both losses against closed forms: correlated Gaussians, whose base models and residual score are known exactly."""

import math

import pytest
import torch
from torch import nn

from mmdisco_cli.diffusion.denoise import Prediction
from mmdisco_cli.diffusion.prediction import from_x0_eps
from mmdisco_cli.diffusion.schedules import Levels
from mmdisco_cli.recipes.schema import TrainConfig
from mmdisco_cli.training.batch import Batch, noised
from mmdisco_cli.training.losses import denoise_loss, disc_loss, joint_losses

RHO, ALPHA = 0.8, 0.8
SIGMA = math.sqrt(1 - ALPHA**2)
C = ALPHA**2 * RHO  # the correlation of the noisy pair
WINDOW = (-4.5, 4.0)
BEST = {"cross": C / (1 - C**2), "own": -(C**2) / (1 - C**2), "constant": -0.5 * math.log(1 - C**2)}


class Quadratic(nn.Module):
    """l = cross x y + own (x^2 + y^2) / 2 + constant, the form of log p - log q for unit Gaussians of correlation c."""

    def __init__(self, cross=0.0, own=0.0, constant=0.0):
        super().__init__()
        self.parts = nn.Parameter(torch.tensor([cross, own, constant], dtype=torch.float64))

    def forward(self, x, log_snr, pooled=None):
        a, b = (x[m][:, 0] for m in ("x", "y"))
        return self.parts[0] * a * b + self.parts[1] * (a**2 + b**2) / 2 + self.parts[2]


def gaussians(count, seed=0, rho=RHO):
    z = torch.randn(2, count, 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return {"x": z[0], "y": rho * z[0] + math.sqrt(1 - rho**2) * z[1]}


def levels(count, alpha=ALPHA):
    a = torch.full((count,), alpha, dtype=torch.float64)
    level = Levels(1 - a, a, (1 - a.square()).sqrt())
    return {"x": level, "y": level}


def exact_bases(noisy):
    """Return each marginal alone: for x_0 ~ N(0, 1) and alpha^2 + sigma^2 = 1, x_0 is alpha x and epsilon sigma x."""
    parts = (
        {m: getattr(noisy.levels[m], part)[:, None] * x for m, x in noisy.states.items()} for part in ("alpha", "sigma")
    )
    return Prediction(*parts)


def losses(module, count=100_000, seed=1, **weights):
    real, generator = Batch(gaussians(count)), torch.Generator().manual_seed(seed)
    fake = real.shuffled(generator)
    noisy = (noised(batch, levels(count), generator) for batch in (real, fake))
    return joint_losses(module, exact_bases, *noisy, WINDOW, TrainConfig(**weights))


def test_classification_at_chance():
    assert float(disc_loss(torch.zeros(3), torch.zeros(5))) == pytest.approx(2 * math.log(2))


def test_classification_is_the_cross_entropy():
    real, fake = torch.tensor([0.3, -2.0]), torch.tensor([1.5, 0.0, -4.0])
    expected = -sum(math.log(1 / (1 + math.exp(-v))) for v in real.tolist()) / 2
    expected -= sum(math.log(1 - 1 / (1 + math.exp(-v))) for v in fake.tolist()) / 3
    assert float(disc_loss(real, fake)) == pytest.approx(expected, rel=1e-5)


def test_no_error_remains_where_the_gradient_is_the_whole_residual():
    generator = torch.Generator().manual_seed(0)
    noise, base = ({"v": torch.randn(6, 2, 3, 4, generator=generator, dtype=torch.float64)} for _ in range(2))
    level = {"v": levels(6)["x"]}
    gradient = {"v": (base["v"] - noise["v"]) / SIGMA}
    guided, alone = denoise_loss(noise, base, gradient, level, WINDOW)
    assert float(guided) < 1e-24
    assert float(alone) == pytest.approx(float((base["v"] - noise["v"]).square().mean()))


def test_with_the_exact_residual_score_only_the_posterior_variance_remains():
    count = 200_000
    noisy = noised(Batch(gaussians(count)), levels(count), torch.Generator().manual_seed(5))
    # grad log p - grad log q for unit Gaussians of correlation c, from the inverse of [[1, c], [c, 1]].
    x, y = noisy.states["x"], noisy.states["y"]
    gradient = {"x": x - (x - C * y) / (1 - C**2), "y": y - (y - C * x) / (1 - C**2)}
    found, alone = denoise_loss(noisy.noise, exact_bases(noisy).epsilon, gradient, noisy.levels, WINDOW)
    assert float(alone) == pytest.approx(2 * (1 - SIGMA**2), rel=0.01)
    assert float(found) == pytest.approx(2 * (1 - SIGMA**2 / (1 - C**2)), rel=0.01)


def test_the_minimiser_of_the_denoising_loss_is_the_residual_score():
    module = Quadratic()

    def loss(parts):
        module.parts.data = parts
        return losses(module, lambda_disc=0.0)[0]

    # The loss is quadratic in the parameters, so that its gradients at 0 and at the unit vectors say where it is least.
    def slope(parts):
        (value,) = torch.autograd.grad(loss(parts), module.parts)
        return value[:2]

    units = torch.eye(3, dtype=torch.float64)
    origin = slope(torch.zeros(3, dtype=torch.float64))
    curvature = torch.stack([slope(units[k]) - origin for k in range(2)], dim=1)
    cross, own = torch.linalg.solve(curvature, -origin).tolist()
    assert cross == pytest.approx(BEST["cross"], rel=0.03)
    assert own == pytest.approx(BEST["own"], rel=0.05)


def test_with_one_parameter_the_minimiser_is_the_covariance():
    """For l = a x y alone, setting the derivative of Eq. (5) to zero gives a = c."""
    count = 200_000
    noisy = noised(Batch(gaussians(count)), levels(count), torch.Generator().manual_seed(2))

    def loss(a):
        gradient = {"x": a * noisy.states["y"], "y": a * noisy.states["x"]}
        return float(denoise_loss(noisy.noise, exact_bases(noisy).epsilon, gradient, noisy.levels, WINDOW)[0])

    low, middle, high = (loss(a) for a in (0.0, 0.5, 1.0))
    vertex = 0.5 + 0.25 * (low - high) / (low - 2 * middle + high)
    assert vertex == pytest.approx(C, rel=0.02)
    assert loss(C) < min(loss(C - 0.1), loss(C + 0.1))


def test_the_classification_loss_is_stationary_at_the_log_ratio():
    module = Quadratic(**BEST)
    value, figures = losses(module, count=200_000, lambda_denoise=0.0)
    (slope,) = torch.autograd.grad(value, module.parts)
    assert float(slope.abs().max()) < 0.01
    assert float(value.detach()) < 2 * math.log(2) - 0.05
    assert figures["accuracy"] > 0.55
    other = Quadratic()
    (start,) = torch.autograd.grad(losses(other, lambda_denoise=0.0)[0], other.parts)
    assert float(start.abs().max()) > 0.2


def test_figures_of_a_discriminator_that_says_nothing():
    value, figures = losses(Quadratic(), count=1000, lambda_disc=2.0, lambda_denoise=3.0)
    assert figures["disc"] == pytest.approx(2 * math.log(2))
    assert figures["gain"] == 0
    assert figures["accuracy"] == 0.5
    assert float(value.detach()) == pytest.approx(2 * figures["disc"] + 3 * figures["denoise"])


@pytest.mark.parametrize(("left_out", "absent"), [("lambda_disc", "disc"), ("lambda_denoise", "denoise")])
def test_a_loss_of_weight_zero_is_not_computed(left_out, absent):
    _, figures = losses(Quadratic(**BEST), count=100, **{left_out: 0.0})
    assert absent not in figures
    assert len(figures) == 2


@pytest.mark.parametrize("fakes", [None, gaussians(8, seed=5)])
def test_classification_alone_calls_no_base_model_and_needs_no_gradient(fakes):
    def called(noisy):
        raise AssertionError("a base model was called for nothing")

    module, config = Quadratic(cross=0.3), TrainConfig(lambda_denoise=0)
    generator = torch.Generator().manual_seed(0)
    real, fake = (clean and noised(Batch(clean), levels(8), generator) for clean in (gaussians(8), fakes))
    value, _ = joint_losses(module, called, real, fake, WINDOW, config)
    value.backward()
    assert float(module.parts.grad.norm()) > 0.1


def test_gain_is_the_share_removed():
    _, figures = losses(Quadratic(**BEST), count=200_000, lambda_disc=0.0)
    expected = 1 - (1 - SIGMA**2 / (1 - C**2)) / (1 - SIGMA**2)
    assert figures["gain"] == pytest.approx(expected, rel=0.05)


def test_rows_that_are_all_outside_the_window_gain_nothing():
    """As when a part of a step is one row: no division by the error that the base models do not have there."""
    noisy = noised(Batch(gaussians(4)), levels(4), torch.Generator().manual_seed(2))
    value, figures = joint_losses(Quadratic(**BEST), exact_bases, noisy, None, (30.0, 40.0), TrainConfig())
    assert figures["denoise"] == figures["gain"] == 0.0
    assert math.isfinite(float(value.detach()))


def test_levels_outside_the_window_do_not_count():
    alpha = torch.tensor([math.cos(0.5 * math.pi * u) for u in (0.001, 0.5, 0.999)], dtype=torch.float64)
    level = {"x": Levels(alpha, alpha, (1 - alpha**2).sqrt())}
    noise = {"x": torch.tensor([[10.0], [2.0], [10.0]], dtype=torch.float64)}
    nothing = {"x": torch.zeros(3, 1, dtype=torch.float64)}
    guided, alone = denoise_loss(noise, nothing, nothing, level, WINDOW)
    assert float(guided) == float(alone) == pytest.approx(4 / 3)


def test_the_error_of_v():
    generator = torch.Generator().manual_seed(0)
    noise, base = ({"x": torch.randn(4, 3, generator=generator, dtype=torch.float64)} for _ in range(2))
    x0, level = torch.randn(4, 3, generator=generator, dtype=torch.float64), levels(4)["x"]
    noisy = ALPHA * x0 + SIGMA * noise["x"]
    right, wrong = (
        from_x0_eps((noisy - SIGMA * e["x"]) / ALPHA, e["x"], level.alpha, level.sigma, "v") for e in (noise, base)
    )
    nothing = {"x": torch.zeros(4, 3, dtype=torch.float64)}
    _, alone = denoise_loss(noise, base, nothing, {"x": level}, WINDOW, "v")
    assert float(alone) == pytest.approx(float((right - wrong).square().mean()))


class Reader(nn.Module):
    """The residual score read off the base models' x_0, held constant: the gradient by x is what multiplies x."""

    reads_x0 = True

    def __init__(self):
        super().__init__()
        self.parts = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    def forward(self, x, log_snr, pooled, x0):
        pairs = (("x", "y"), ("y", "x"))
        score = {m: (self.parts[0] * x0[other] + self.parts[1] * x0[m]) / ALPHA for m, other in pairs}
        return sum((x[m] * score[m])[:, 0] for m in x)


def test_a_network_that_reads_the_bases_x0_learns_the_residual_score_as_its_gradient():
    network = Reader()
    optimizer = torch.optim.LBFGS(network.parameters(), line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value, _ = losses(network, lambda_disc=0.0)
        value.backward()
        return value

    optimizer.step(closure)
    # d/dx (log p - log q) = cross y + own x of the noisy pair, and x = x_0 / alpha.
    assert network.parts.tolist() == pytest.approx([BEST["cross"], BEST["own"]], abs=0.03)


def test_fakes_without_a_source_leave_the_classification_what_it_was():
    network = Quadratic(**BEST)
    real, level, value = Batch(gaussians(100_000)), levels(100_000), {}
    fakes = {"shuffled": real.shuffled(torch.Generator().manual_seed(5)), "re-paired": None}
    for name, fake in fakes.items():
        generator = torch.Generator().manual_seed(6)
        noisy = (batch and noised(batch, level, generator) for batch in (real, fake))
        with torch.no_grad():
            found, _ = joint_losses(network, exact_bases, *noisy, WINDOW, TrainConfig(lambda_denoise=0.0))
        value[name] = float(found)
    assert value["re-paired"] == pytest.approx(value["shuffled"], abs=0.01)
