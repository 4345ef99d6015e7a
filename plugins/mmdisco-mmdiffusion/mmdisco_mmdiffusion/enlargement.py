"""From 64 x 64 to 256 x 256 pixels: DDIM over single frames, each beside its own blurred enlargement."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.diffusion.denoise import Denoiser, Prediction
from mmdisco_cli.diffusion.prediction import to_x0_eps
from mmdisco_cli.diffusion.samplers import ddim
from mmdisco_cli.diffusion.schedules import Levels, betas_linear, discrete_vp
from mmdisco_mmdiffusion.enlarger import FACTOR, Enlarger

FRAMES = 4
"""Frames that are enlarged together: of the released size they take about 2 GB in float32."""


@torch.no_grad()
def enlarge(network: Enlarger, video: Tensor, noise: Tensor, steps: int) -> Tensor:
    """Return video (B, 3, T, H, W) in [-1, 1] four times as large, from noise (B, 3, 4 H, 4 W) that its frames share.

    Without fresh noise (eta = 0) and with x_0 kept within [-1, 1], as MM-Diffusion samples it in 25 steps.
    """
    frames = video.transpose(1, 2)
    low = frames.flatten(0, 1)
    start = noise[:, None].expand(-1, frames.shape[1], -1, -1, -1).flatten(0, 1)
    grid = {"frames": discrete_vp(betas_linear()).grid(steps)}
    large = [
        ddim(_denoiser(network, small), {"frames": first}, grid)["frames"]
        for small, first in zip(low.split(FRAMES), start.split(FRAMES), strict=True)
    ]
    return torch.cat(large).reshape(*frames.shape[:3], *noise.shape[-2:]).transpose(1, 2)


def reduce(video: Tensor) -> Tensor:
    """Return video (B, 3, T, H, W) at a quarter of its height and width, each pixel the mean of 16."""
    return F.avg_pool3d(video, (1, FACTOR, FACTOR))


def _denoiser(network: Enlarger, low: Tensor) -> Denoiser:
    """Return what predicts frames (N, 3, 4 H, 4 W) beside low (N, 3, H, W)."""
    beside = F.interpolate(low, scale_factor=FACTOR, mode="bilinear", align_corners=False)

    def denoise(state: State, levels: Mapping[str, Levels]) -> Prediction:
        x, level = state["frames"], levels["frames"]
        epsilon = network(x, beside, level.t.to(x.device).expand(len(x)))
        x0, _ = to_x0_eps(epsilon, x, level.alpha, level.sigma, "epsilon")
        x0, epsilon = to_x0_eps(x0.clamp(-1, 1), x, level.alpha, level.sigma, "sample")
        return Prediction({"frames": x0}, {"frames": epsilon})

    return denoise
