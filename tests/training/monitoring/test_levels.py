"""The gain by noise level, beside what is known in closed form."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from watched import watched

from mmdisco_cli.assembly import assemble
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.toys.gaussians.mixture import Mixture, latin_mixture
from mmdisco_cli.training.batch import Batch
from mmdisco_cli.training.monitoring.levels import gain_by_level

CPU = torch.device("cpu")
JOINT = latin_mixture(2, 4, 0.15)


def log_density(mixture: Mixture, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return log p (B,) of noisy points (B, M), up to a constant."""
    variance = (alpha * mixture.std).square() + sigma.square()
    gap = x[:, None] - alpha[:, :, None] * mixture.means
    return (-gap.square() / (2 * variance[:, :, None]) - variance[:, :, None].log() / 2).sum(2).logsumexp(1)


class Optimal(nn.Module):
    """The logit of the optimal discriminator between pairs of the mixture and independent draws of its marginals."""

    def forward(self, x: Mapping[str, Tensor], lam: Mapping[str, Tensor], pooled: object = None) -> Tensor:
        both = torch.stack([s.flatten() for s in x.values()], 1)
        alpha, sigma = ((2 * sign).sigmoid().sqrt()[:, None] for sign in (lam["x"], -lam["x"]))
        alone = sum(log_density(JOINT.marginal(k), both[:, k : k + 1], alpha, sigma) for k in range(2))
        return log_density(JOINT, both, alpha, sigma) - alone


class Nothing(nn.Module):
    """A discriminator whose logit depends on nothing."""

    def forward(self, x: Mapping[str, Tensor], lam: Mapping[str, Tensor], pooled: object = None) -> Tensor:
        return sum(s.flatten(1).sum(1) for s in x.values()) * 0.0  # type: ignore[return-value]


def points(count: int, generator: torch.Generator) -> Batch:
    drawn = JOINT.draw(count, generator)
    return Batch({"x": drawn[:, :1].reshape(-1, 1), "y": drawn[:, 1:].reshape(-1, 1)})


def recipe(folder: Path) -> Recipe:
    return watched(folder, "train.batch_size=4096")


def exact_gain(log_snr: float) -> float:
    """Return the share of the marginals' error that the joint denoiser removes, from draws of its own."""
    generator = torch.Generator().manual_seed(5)
    clean, level = JOINT.draw(20000, generator), torch.tensor(2 * log_snr)  # log(alpha / sigma) here
    alpha, sigma = level.sigmoid().sqrt().reshape(1, 1), (-level).sigmoid().sqrt().reshape(1, 1)
    noise = torch.randn(clean.shape, generator=generator)
    noisy = alpha * clean + sigma * noise
    together = JOINT.denoise(noisy, alpha, sigma)[1]
    alone = torch.cat([JOINT.marginal(k).denoise(noisy[:, k : k + 1], alpha, sigma)[1] for k in range(2)], 1)
    return float(1 - (noise - together).square().mean() / (noise - alone).square().mean())


def test_the_optimal_discriminator_gains_what_the_joint_denoiser_does(tmp_path: Path) -> None:
    one = recipe(tmp_path)
    assembly = assemble(one, CPU, with_discriminator=False)
    found = gain_by_level(Optimal(), assembly, points, one.train, one.sample.window)
    assert list(found) == ["-4", "-3", "-2", "-1", "+0", "+1", "+2", "+3", "+4"]
    assert max(found.values()) > 0.5
    for level, gain in found.items():
        assert gain == pytest.approx(exact_gain(float(level)), abs=0.03)


def test_it_is_the_same_at_every_call_and_nothing_for_what_knows_nothing(tmp_path: Path) -> None:
    one = recipe(tmp_path)
    assembly = assemble(one, CPU, with_discriminator=False)
    first, again = (gain_by_level(Optimal(), assembly, points, one.train, one.sample.window) for _ in range(2))
    assert first == again
    assert set(gain_by_level(Nothing(), assembly, points, one.train, one.sample.window).values()) == {0.0}


def test_levels_outside_the_window_of_guidance_are_left_out(tmp_path: Path) -> None:
    one = recipe(tmp_path)
    assembly = assemble(one, CPU, with_discriminator=False)
    assert list(gain_by_level(Optimal(), assembly, points, one.train, (-1.5, 1.5))) == ["-1", "+0", "+1"]
