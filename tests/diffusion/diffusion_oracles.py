"""Independent answers: diffusers' schedulers, and Gaussians, whose every noisy distribution is known in closed form."""

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor

from mmdisco_cli.diffusion.denoise import Denoiser, Prediction
from mmdisco_cli.diffusion.schedules import Levels

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # diffusers warns on import about what it does not find installed
    from diffusers.schedulers.scheduling_ddim import DDIMScheduler
    from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
    from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
    from diffusers.schedulers.scheduling_dpmsolver_singlestep import DPMSolverSinglestepScheduler
    from diffusers.schedulers.scheduling_edm_euler import EDMEulerScheduler
    from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

__all__ = [
    "DDIMScheduler",
    "DDPMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EDMEulerScheduler",
    "FlowMatchEulerDiscreteScheduler",
    "JointGaussian",
    "vp_grid",
    "white",
]


class JointGaussian:
    """Scalar modalities with a joint normal distribution; states are (B, 1)."""

    def __init__(self, names: str, mean: list[float], cov: list[list[float]]) -> None:
        self.names = list(names)
        self.mean = torch.tensor(mean, dtype=torch.float64)
        self.cov = torch.tensor(cov, dtype=torch.float64)

    def independent(self) -> "JointGaussian":
        return JointGaussian("".join(self.names), self.mean.tolist(), torch.diag(self.cov.diag()).tolist())

    def noisy(self, levels: Mapping[str, Levels]) -> tuple[Tensor, Tensor]:
        """Return the mean and covariance of the noisy tuple at scalar levels."""
        a = torch.stack([levels[m].alpha for m in self.names]).double()
        s = torch.stack([levels[m].sigma for m in self.names]).double()
        return a * self.mean, a[:, None] * self.cov * a + torch.diag(s**2)

    def log_prob(self, state: Mapping[str, Tensor], levels: Mapping[str, Levels]) -> Tensor:
        mean, cov = self.noisy(levels)
        x = torch.cat([state[m] for m in self.names], 1).double()
        return torch.distributions.MultivariateNormal(mean, cov).log_prob(x)

    def denoiser(self) -> Denoiser:
        """Return E[x_0 | x] and the epsilon that goes with it."""

        def denoise(state: Mapping[str, Tensor], levels: Mapping[str, Levels]) -> Prediction:
            mean, cov = self.noisy(levels)
            a = torch.stack([levels[m].alpha for m in self.names]).double()
            s = torch.stack([levels[m].sigma for m in self.names]).double()
            x = torch.cat([state[m] for m in self.names], 1).double()
            whitened = torch.linalg.solve(cov, (x - mean).T).T  # minus the score
            x0, eps = self.mean + whitened @ (a[:, None] * self.cov), s * whitened
            return Prediction(dict(self.split(x0)), dict(self.split(eps)))

        return denoise

    def split(self, x: Tensor) -> list[tuple[str, Tensor]]:
        return [(m, x[:, i : i + 1]) for i, m in enumerate(self.names)]


def white(names: str, n: int, seed: int = 0) -> dict[str, Tensor]:
    """Return noise of empirical mean exactly 0 and covariance exactly 1: linear maps of it are known exactly."""
    x = torch.randn(n, len(names), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    x = x - x.mean(0)
    x = torch.linalg.solve_triangular(torch.linalg.cholesky(torch.cov(x.T)), x.T, upper=False).T
    return {m: x[:, i : i + 1] for i, m in enumerate(names)}


def vp_grid(start: float, end: float, steps: int) -> Levels:
    """Return a variance-preserving grid, float64, even in log-SNR from start to end."""
    lam = torch.linspace(start, end, steps + 1, dtype=torch.float64)
    return Levels(-lam, torch.sigmoid(2 * lam).sqrt(), torch.sigmoid(-2 * lam).sqrt())
