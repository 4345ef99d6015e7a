"""What a trained model reached on clips that it never saw, measured on the weights that its file holds."""

from typing import Any

import torch
from torch import Tensor, nn

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.backbones.logmel import SCALE, encode_logmel
from mmdisco_cli.backbones.sound import SAMPLE_RATE
from mmdisco_cli.backbones.token import TokenBackbone
from mmdisco_cli.data.contract import Dataset
from mmdisco_cli.diffusion.denoise import logit_of
from mmdisco_cli.discriminators.interaction import interaction, strangers
from mmdisco_cli.recipes.schema import TrainConfig
from mmdisco_cli.training.discriminator_run import Draw, Pairing
from mmdisco_cli.training.joint import noised
from mmdisco_cli.training.loop import Loss, step_generator

CLIPS = 256
"""Most held-out clips that are measured."""
RECONSTRUCTED = 32
"""Of these, those that go through the codec and back."""
LOG_SNR = (-4, -3, -2, -1, 0, 1, 2, 3, 4)
BATCHES = 8
DECIBELS = 20 / 2.302585
"""Of one unit of natural logarithm of a magnitude."""
MEASURE = -1
"""The rank whose generators no training step ever uses."""


@torch.no_grad()
def backbone_results(
    backbone: TokenBackbone, dataset: Dataset, config: TrainConfig, device: torch.device
) -> dict[str, Any]:
    """Return the error of x_0 by log-SNR, in units of the latents' unit variance, and that of the codec."""
    count = CLIPS if dataset.length is None else min(CLIPS, dataset.length)
    plan, name = backbone.plan(backbone.request), backbone.modality
    chunks = [range(i, min(i + 32, count)) for i in range(0, count, 32)]
    latents = torch.cat([backbone.encode(dataset.media(c, (name,))[name].to(device), plan) for c in chunks])
    media = dataset.media(range(min(RECONSTRUCTED, count)), (name,))[name]
    again = backbone.decode(latents[: len(media)], plan).cpu()
    return {
        "clips": count,
        "x0_error_by_log_snr": denoising_errors(backbone, latents, config),
        "reconstruction": reconstruction_error(backbone, media, again),
    }


@torch.no_grad()
def denoising_errors(backbone: TokenBackbone, latents: Tensor, config: TrainConfig) -> dict[str, float]:
    """Return the mean squared error of x_0 for latents (N, ...) at each log-SNR."""
    errors = {}
    for k, lam in enumerate(LOG_SNR):
        generator = step_generator(config.seed, MEASURE, k)
        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        log_snr = torch.full((len(latents),), float(lam), device=latents.device)
        alpha, sigma = (2 * log_snr[0]).sigmoid().sqrt(), (-2 * log_snr[0]).sigmoid().sqrt()
        noisy = alpha * latents + sigma * noise
        chunks = zip(noisy.split(32), log_snr.split(32), strict=True)
        predicted = torch.cat([backbone.denoiser(x, level) for x, level in chunks])
        errors[f"{lam:+d}"] = round(float((predicted - latents).square().mean()), 5)
    return errors


def reconstruction_error(backbone: TokenBackbone, media: Tensor, again: Tensor) -> dict[str, float]:
    """Return the codec's error: for pictures the PSNR in dB, for sound the mean log-mel difference in dB."""
    if backbone.options.codec == "sound":
        difference = (encode_logmel(again, SAMPLE_RATE) - encode_logmel(media, SAMPLE_RATE)).abs().mean()
        return {"logmel_db": round(float(difference) * SCALE * DECIBELS, 3)}
    peak = 2.0  # media lie in [-1, 1]
    return {"psnr_db": round(float(10 * torch.log10(peak**2 / (again - media).square().mean())), 2)}


def discriminator_results(
    discriminator: nn.Module, loss: Loss, real: Draw, assembly: Assembly, config: TrainConfig
) -> dict[str, Any]:
    """Return the figures of `loss` on held-out tuples, averaged over some batches, and the interaction."""
    figures = [loss(step_generator(config.seed, MEASURE, k))[1] for k in range(BATCHES)]
    means = {name: round(sum(row[name] for row in figures) / len(figures), 5) for name in figures[0]}
    return {**means, "interaction": round(measured_interaction(discriminator, real, assembly, config), 6)}


@torch.no_grad()
def measured_interaction(discriminator: nn.Module, real: Draw, assembly: Assembly, config: TrainConfig) -> float:
    """Return the interaction over noise levels as training draws them."""
    walked = Pairing(assembly.bases, assembly.coupling, given_fraction=0.0)

    def once(k: int) -> float:
        generator = step_generator(config.seed, MEASURE, BATCHES + k)
        clean = {m: x.to(assembly.device) for m, x in real(config.batch_size, generator).items()}
        levels = walked.draw(config, config.batch_size, generator)
        states = (noised(x, levels, generator)[0] for x in strangers(clean))
        return interaction(lambda x: logit_of(discriminator, assembly.bases, x, levels), *states)

    return sum(once(k) for k in range(BATCHES)) / BATCHES
