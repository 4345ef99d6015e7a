"""The exact denoiser of one modality of the gaussians data: a backbone without any error of its own."""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import VECTOR, Condition, ModalityInfo, ModalityPlan, Payload, Request
from mmdisco_cli.diffusion.prediction import PredictionType, from_x0_eps, per_sample
from mmdisco_cli.diffusion.schedules import Levels, make_schedule
from mmdisco_cli.run.files import fingerprint
from mmdisco_cli.toys.gaussians.mixture import Mixture, grid_levels
from mmdisco_cli.toys.gaussians.options import GaussianMixtureOptions

TIMES = {"cosine": 1.0, "flow": 1000.0, "vp-linear": 999.0, "vp-cosine": 999.0}
"""Native time at u = 1 of each schedule; all run in proportion to u."""


class GaussianMixtureBackbone:
    """One scalar's backbone, after the contract of `diffusion.backbone.Backbone`."""

    def __init__(self, modality: str, options: GaussianMixtureOptions) -> None:
        self.modality, self.options = modality, options
        self.schedule = make_schedule(options.schedule)
        self.mixture = Mixture(grid_levels(options.levels, options.spread)[:, None], options.spread)

    @property
    def info(self) -> ModalityInfo:
        """Describe the modality."""
        return ModalityInfo(self.modality, cast(PredictionType, self.options.prediction), 1, None, kind=VECTOR)

    @property
    def fingerprint(self) -> str:
        """Name the exact distribution and schedule."""
        return fingerprint(f"gaussian-mixture-1:{self.options}")

    def to(self, device: torch.device) -> None:
        """Do nothing: the modes follow the states."""

    def plan(self, request: Request) -> ModalityPlan:
        """Return the one shape there is, a scalar."""
        return ModalityPlan((1,), (1,), None, 0.0)

    def grid(self, steps: int, plan: ModalityPlan) -> Levels:
        """Return the schedule's grid."""
        return self.schedule.grid(steps)

    def levels_at(self, u: Tensor, plan: ModalityPlan) -> Levels:
        """Return the schedule's levels."""
        return self.schedule.levels_at(u)

    def encode_prompt(self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: ModalityPlan) -> Condition:
        """Return the empty condition: a mixture takes no prompt."""
        return Condition()

    @torch.no_grad()
    def predict(self, x: Tensor, t: Tensor, condition: Payload, plan: ModalityPlan) -> Tensor:
        """Return the native output for x (B, 1) at native times t (B,), from the closed form."""
        _, alpha, sigma = self.schedule.levels_at(t.double() / TIMES[self.options.schedule])
        x0, epsilon = self.mixture.denoise(x.float(), per_sample(alpha, x).float(), per_sample(sigma, x).float())
        return from_x0_eps(x0, epsilon, alpha, sigma, self.info.prediction)

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the media: the scalar is its own latent."""
        return media

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the latents: the scalar is its own latent."""
        return latent


def build(modality: str, options: GaussianMixtureOptions, request: Request) -> GaussianMixtureBackbone:
    """Build the backbone of a recipe."""
    return GaussianMixtureBackbone(modality, options)
