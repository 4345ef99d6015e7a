"""The mixture's formulas against automatic differentiation of its density, and its distribution against draws."""

import math

import pytest
import torch

from mmdisco_cli.toys.gaussians.mixture import grid_levels, latin_mixture


def log_density(mixture, x, alpha, sigma):
    """Return log p_u(x) for x (M,) with alpha and sigma (M,), written out mode by mode."""
    terms = []
    for mean in mixture.means.double():
        distribution = torch.distributions.Normal(alpha * mean, ((alpha * mixture.std) ** 2 + sigma**2).sqrt())
        terms.append(distribution.log_prob(x).sum() - math.log(len(mixture.means)))
    return torch.stack(terms).logsumexp(0)


@pytest.mark.parametrize("modalities", [2, 3])
def test_epsilon_is_the_score_of_the_density(modalities):
    mixture = latin_mixture(modalities, 4, 0.15)
    alpha = torch.tensor([0.9, 0.3, 0.7], dtype=torch.float64)[:modalities]
    sigma = torch.tensor([0.2, 0.9, 0.0], dtype=torch.float64)[:modalities]
    x = torch.randn(5, modalities, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x0, epsilon = mixture.denoise(x, alpha[None], sigma[None])
    for row, one in enumerate(x):
        point = one.clone().requires_grad_()
        (score,) = torch.autograd.grad(log_density(mixture, point, alpha, sigma), point)
        torch.testing.assert_close(epsilon[row], -sigma * score)
    torch.testing.assert_close(alpha * x0 + sigma * epsilon, x)


def test_pure_noise_says_nothing_and_no_noise_says_all():
    mixture = latin_mixture(2, 4, 0.15)
    x = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    zero, one = torch.zeros(6, 1), torch.ones(6, 1)
    x0, epsilon = mixture.denoise(x, zero, one)
    torch.testing.assert_close(x0, mixture.means.mean(0).expand(6, 2))
    torch.testing.assert_close(epsilon, x)
    x0, epsilon = mixture.denoise(x, one, zero)
    torch.testing.assert_close(x0, x)
    torch.testing.assert_close(epsilon, torch.zeros(6, 2))


@pytest.mark.parametrize("modalities", [2, 3])
def test_the_distribution(modalities):
    mixture = latin_mixture(modalities, 4, 0.15)
    assert len(mixture.means) == 4 ** (modalities - 1)
    points = mixture.draw(40_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(points.T.cov(), torch.eye(modalities), atol=0.03, rtol=0)
    # Within 3.5 standard deviations: the chi distribution of as many dimensions, but for what neighbouring modes add.
    expected = torch.special.gammainc(torch.tensor(modalities / 2), torch.tensor(3.5**2 / 2))
    assert mixture.on_modes(points) == pytest.approx(float(expected), abs=0.002)
    alone = torch.stack([points[torch.randperm(len(points)), k] for k in range(modalities)], 1)
    assert mixture.on_modes(alone) == pytest.approx(0.25, abs=0.02)
    for k in range(modalities):
        torch.testing.assert_close(mixture.marginal(k).means[:, 0], grid_levels(4, 0.15))


def test_any_two_of_three_are_independent():
    means = latin_mixture(3, 4, 0.15).means
    for pair in ((0, 1), (0, 2), (1, 2)):
        assert len(means[:, pair].unique(dim=0)) == 16
