"""Training of a built-in base model on one modality alone: first its codec, where that is learnt, then its denoiser."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmdisco_cli.backbones.denoiser import TokenDenoiser
from mmdisco_cli.backbones.token import Codec
from mmdisco_cli.data.contract import Dataset
from mmdisco_cli.diffusion.schedules import Levels, cosine, log_snr
from mmdisco_cli.recipes.schema import TrainConfig
from mmdisco_cli.training.loop import Loss
from mmdisco_cli.training.time_law import draw_progress

LEAST_SIGMA = 0.2
"""The v loss weighs the error of x_0 by 1 / sigma^2; below this the weight stops growing."""


def denoising_loss(
    denoiser: TokenDenoiser, bank: Tensor, config: TrainConfig, batch: int, device: torch.device
) -> Loss:
    """Return the loss of x_0 prediction, weighted as an error of v (Salimans & Ho, arXiv 2202.00512)."""
    schedule = cosine()

    def loss(generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        rows = torch.randint(len(bank), (batch,), generator=generator)
        clean = bank[rows].float().to(device)
        u = draw_progress(config.time_law, schedule.levels_at, batch, generator)
        levels = Levels(*(level.to(device) for level in schedule.levels_at(u)))
        alpha, sigma = (level.view(-1, *[1] * (clean.ndim - 1)) for level in (levels.alpha, levels.sigma))
        noisy = alpha * clean + sigma * torch.randn(clean.shape, generator=generator).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.dtype == "bfloat16"):
            predicted = denoiser(noisy, log_snr(levels.alpha, levels.sigma))
        error = (predicted.float() - clean).square().flatten(1).mean(1)
        value = (error / levels.sigma.clamp_min(LEAST_SIGMA).square()).mean()
        return value, {"x0_error": float(error.mean().detach())}

    return loss


def codec_loss(codec: Codec, items: Tensor, config: TrainConfig, device: torch.device) -> Loss:
    """Return the reconstruction loss over compact items (N, ...): single frames or log-mel pictures."""

    def loss(generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        rows = torch.randint(len(items), (codec.batch,), generator=generator)
        batch = codec.expand(items[rows]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.dtype == "bfloat16"):
            value = codec.reconstruction_loss(batch, generator)
        return value, {}

    return loss


def codec_items(codec: Codec, dataset: Dataset, modality: str, count: int) -> Tensor:
    """Return the compact items of the first `count` clips."""
    count = min(count, dataset.length) if dataset.length is not None else count
    chunks = [range(i, min(i + 32, count)) for i in range(0, count, 32)]
    return torch.cat([codec.compact(dataset.media(chunk, (modality,))[modality]) for chunk in chunks])
