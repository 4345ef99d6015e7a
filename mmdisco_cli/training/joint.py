"""The losses that train a discriminator (MMDisCo, arXiv 2405.17842): classification, Eq. (4), and denoising, Eq. (5).

The base models are only ever asked for predictions; the second derivatives that Eq. (5) needs pass through the
discriminator alone.
"""

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.diffusion.denoise import Prediction
from mmdisco_cli.diffusion.guidance import LogSNRWindow, guided_epsilon, logit, logit_and_gradient, reads_x0
from mmdisco_cli.diffusion.prediction import per_sample
from mmdisco_cli.diffusion.schedules import Levels, log_snr
from mmdisco_cli.recipes.schema import TrainConfig

BasePrediction = Callable[[State, Mapping[str, Levels]], Prediction]
"""What the base models alone make of noisy states (B, ...) at levels (B,)."""


def disc_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return Eq. (4) for logits (B,) of real and fake tuples; 2 log 2 = 1.386 is chance."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def denoise_loss(
    noise: Mapping[str, Tensor],
    base: Mapping[str, Tensor],
    gradient: Mapping[str, Tensor],
    levels: Mapping[str, Levels],
    window: LogSNRWindow,
    space: str = "epsilon",
) -> tuple[Tensor, Tensor]:
    """Return Eq. (5) and the same for the base models alone, each summed over modalities and averaged over the batch.

    All states are (B, ...). Levels outside the log-SNR window, where guidance will not act, are left out: near the
    clean end the base's own imperfection would drown what the pair has to say.
    """
    guided, alone = [], []
    for m, target in noise.items():
        level = levels[m]
        lam = log_snr(level.alpha, level.sigma).to(target.device)
        weight = ((lam >= window[0]) & (lam <= window[1])).float()
        if space == "v":
            weight = weight / level.alpha.to(target.device).clamp_min(1e-3).square()
        estimate = guided_epsilon(base[m], gradient[m], level.sigma)
        guided.append((weight * (target - estimate).square().flatten(1).mean(1)).mean())
        alone.append((weight * (target - base[m]).square().flatten(1).mean(1)).mean())
    return torch.stack(guided).sum(), torch.stack(alone).sum()


def noised(
    clean: Mapping[str, Tensor], levels: Mapping[str, Levels], generator: torch.Generator
) -> tuple[State, State]:
    """Return noisy states and their noise, Eq. (1), drawn modality by modality."""
    noise = {m: torch.randn(x.shape, generator=generator).to(x.device) for m, x in clean.items()}
    noisy = {
        m: per_sample(levels[m].alpha, x) * x + per_sample(levels[m].sigma, x) * noise[m] for m, x in clean.items()
    }
    return noisy, noise


def shuffled(clean: Mapping[str, Tensor], generator: torch.Generator) -> State:
    """Re-pair the tuples so that no modality keeps its partner: the k-th moves on by k places of a random order.

    Raises:
        ValueError: fewer tuples than modalities.
    """
    batch = len(next(iter(clean.values())))
    if batch < len(clean):
        raise ValueError(f"re-pairing {len(clean)} modalities needs as many tuples, got {batch}")
    order = torch.randperm(batch, generator=generator)
    return {m: x[order.roll(k)] for k, (m, x) in enumerate(clean.items())}


def repaired(state: Mapping[str, Tensor]) -> State:
    """Give every state (B, ...) other partners of its own noise level, in a batch whose levels repeat once a modality.

    The k-th of M modalities moves on by k * B / M rows, so that no two keep each other's company.
    """
    step = len(next(iter(state.values()))) // len(state)
    return {m: x.roll(k * step, 0) for k, (m, x) in enumerate(state.items())}


def joint_losses(
    discriminator: nn.Module,
    base: BasePrediction,
    real: Mapping[str, Tensor],
    fake: Mapping[str, Tensor] | None,
    levels: Mapping[str, Levels],
    window: LogSNRWindow,
    config: TrainConfig,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted sum of both losses of clean real and fake tuples (B, ...) at levels (B,), and figures to log.

    Without fakes the noisy real tuples are re-paired (`repaired`), for which the levels repeat once a modality; this
    costs no further question to the base models. `gain` is the share of the base models' denoising error that guidance
    removes: the one figure that says it is learning.
    """
    noisy, noise = noised(real, levels, generator)
    # Without (5) nothing needs the bases, unless the discriminator reads them, nor a gradient with a graph of its own.
    alone = base(noisy, levels) if config.lambda_denoise or reads_x0(discriminator) else Prediction({}, {})
    if config.lambda_denoise:
        real_logit, gradient = logit_and_gradient(discriminator, noisy, levels, create_graph=True, x0=alone.x0)
    else:
        real_logit, gradient = logit(discriminator, noisy, levels, x0=alone.x0), {}
    value, figures = torch.zeros((), device=real_logit.device), {}
    if config.lambda_disc:
        if fake is None:
            wrong, x0 = repaired(noisy), repaired(alone.x0) if alone.x0 else {}
        else:
            wrong, _ = noised(fake, levels, generator)
            x0 = base(wrong, levels).x0 if reads_x0(discriminator) else {}
        fake_logit = logit(discriminator, wrong, levels, x0=x0)
        classification = disc_loss(real_logit, fake_logit)
        value = value + config.lambda_disc * classification
        figures["disc"] = float(classification.detach())
        figures["accuracy"] = float(((real_logit > 0).float().mean() + (fake_logit < 0).float().mean()) / 2)
    if config.lambda_denoise:
        denoising, unguided = denoise_loss(noise, alone.epsilon, gradient, levels, window, config.denoise_space)
        value = value + config.lambda_denoise * denoising
        figures["denoise"] = float(denoising.detach())
        figures["gain"] = float(1 - denoising.detach() / unguided)
    return value, figures
