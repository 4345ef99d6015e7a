"""Samples of one base model alone, as the samplers draw them."""

import torch

from mmdisco_cli.diffusion.backbone import Request
from mmdisco_cli.diffusion.base_models import Prediction
from mmdisco_cli.diffusion.noise import StepNoise
from mmdisco_cli.diffusion.prediction import to_x0_eps
from mmdisco_cli.diffusion.samplers import SAMPLERS


def sampled(bank, n, sampler="ddpm", steps=40):
    """Samples (n, ...) of a backbone alone."""
    plan = bank.plan(Request())
    state = {"m": torch.randn(n, *plan.latent_shape, generator=torch.Generator().manual_seed(5))}

    def denoise(x, levels):
        (state,), (level,) = x.values(), levels.values()
        native = bank.predict(state, level.t.expand(n), None, plan)
        x0, epsilon = to_x0_eps(native, state, level.alpha, level.sigma, bank.info.prediction)
        return Prediction({"m": x0}, {"m": epsilon})

    return SAMPLERS[sampler](denoise, state, {"m": bank.grid(steps, plan)}, StepNoise(0, range(n)))["m"]
