"""The losses that train a discriminator (MMDisCo, arXiv 2405.17842): classification, Eq. (4), and denoising, Eq. (5).

The base models only predict; the second derivatives that Eq. (5) needs pass through the discriminator alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.diffusion.denoise import Prediction
from mmdisco_cli.diffusion.guidance import (
    Discriminator,
    LogSNRWindow,
    Separable,
    guided_epsilon,
    logit,
    logit_and_gradient,
    reads_x0,
)
from mmdisco_cli.diffusion.prediction import at_least_float32
from mmdisco_cli.diffusion.schedules import Levels, log_snr
from mmdisco_cli.discriminators.repairing import ReadOnce
from mmdisco_cli.recipes.schema import TrainConfig
from mmdisco_cli.training.batch import NoisyBatch, mismatched

BasePrediction = Callable[[NoisyBatch], Prediction]
"""What the base models predict of noisy states, each alone."""


def disc_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Return Eq. (4) for logits (B,) of real and fake tuples; 2 log 2 = 1.386 is chance."""
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def comparable_loss(real: Tensor, fake: Tensor, comparable: Tensor) -> Tensor:
    """Return Eq. (4) over all B rows, to which those that are not comparable (B,) add nothing."""
    each = F.softplus(-real) + F.softplus(fake)
    return torch.where(comparable, each, torch.zeros_like(each)).mean()


def denoise_loss(
    noise: Mapping[str, Tensor],
    unguided: Mapping[str, Tensor],
    gradient: Mapping[str, Tensor],
    levels: Mapping[str, Levels],
    window: LogSNRWindow,
    space: str = "epsilon",
) -> tuple[Tensor, Tensor]:
    """Return Eq. (5) and the same for the base models alone, each summed over modalities and averaged over the batch.

    `noise` is the target, `unguided` the epsilon of the base models and `gradient` that of the logit, all (B, ...).
    Levels outside the log-SNR window, where guidance will not act, are left out: near the clean end the error of the
    base models would be larger than what the pair adds.
    """
    guided, alone = [], []
    for m, target in noise.items():
        weight = _weight(levels[m], window, space).to(target.device)
        estimate = guided_epsilon(unguided[m], gradient[m], levels[m].sigma)
        guided.append((weight * (target - estimate).square().flatten(1).mean(1)).mean())
        alone.append((weight * (target - unguided[m]).square().flatten(1).mean(1)).mean())
    return torch.stack(guided).sum(), torch.stack(alone).sum()


def _weight(level: Levels, window: LogSNRWindow, space: str) -> Tensor:
    """Return the weight (B,) of each row's error of epsilon."""
    lam = log_snr(level.alpha, level.sigma)
    weight = ((lam >= window[0]) & (lam <= window[1])).float()
    return weight / level.alpha.clamp_min(1e-3).square() if space == "v" else weight


def joint_losses(
    discriminator: nn.Module,
    predict: BasePrediction,
    real: NoisyBatch,
    fake: NoisyBatch | None,
    window: LogSNRWindow,
    config: TrainConfig,
    groups: int | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """Return the weighted sum of both losses of real and fake tuples of the same levels (B,), and figures to log.

    Without fakes the real tuples are re-paired (`mismatched`), for which the levels repeat `groups` times (by default
    once a modality). This needs no further prediction of the base models, unless the discriminator reads these and
    re-paired rows differ in text. A `Separable` discriminator gets all re-pairings from one forward pass. Real and fake
    rows have the same conditions. The figure `gain` is the share of the base models' denoising error that guidance
    removes; it shows best whether training makes progress.
    """
    once = ReadOnce(discriminator) if _all_repaired(discriminator, real, fake) else None
    # Without (5) nothing needs the bases, unless the discriminator reads them, nor a gradient with a graph of its own.
    alone = predict(real) if config.lambda_denoise or reads_x0(discriminator) else Prediction({}, {})
    real_logit, gradient = _real_logit(once or discriminator, real, alone.x0, with_gradient=config.lambda_denoise > 0)
    value = torch.zeros((), device=real_logit.device)
    figures: dict[str, float] = {}
    if config.lambda_disc:
        if once:
            fake_logit = at_least_float32(once.repaired(groups or len(real.states)))
        else:
            fake_logit = _fake_logit(discriminator, predict, real, fake, alone.x0, groups)
        comparable = real.comparable if fake is None else fake.comparable
        classification, figures = _classification(real_logit, fake_logit, comparable)
        value = value + config.lambda_disc * classification
    if config.lambda_denoise:
        space = config.denoise_space
        denoising, unguided = denoise_loss(real.noise, alone.epsilon, gradient, real.levels, window, space)
        value = value + config.lambda_denoise * denoising
        figures["denoise"] = float(denoising.detach())
        # Of few rows, all may lie outside the window: then there is no error to remove.
        figures["gain"] = float(1 - denoising.detach() / unguided) if unguided > 0 else 0.0
    return value, figures


def _classification(real: Tensor, fake: Tensor, comparable: Tensor | None) -> tuple[Tensor, dict[str, float]]:
    """Return Eq. (4), and its figures over the rows (B,) that can be compared."""
    value = disc_loss(real, fake) if comparable is None else comparable_loss(real, fake, comparable)
    if comparable is not None and bool(comparable.any()):
        real, fake = real[comparable], fake[comparable]
    right = (2 + real.detach().sign().mean() - fake.detach().sign().mean()) / 4  # a logit of 0 is right by chance
    return value, {"disc": float(disc_loss(real, fake).detach()), "accuracy": float(right)}


def _all_repaired(discriminator: nn.Module, real: NoisyBatch, fake: NoisyBatch | None) -> TypeGuard[Separable]:
    """Return whether all re-pairings of a batch are fakes: with texts only some are right."""
    return fake is None and not real.conditions and isinstance(discriminator, Separable)


def _real_logit(
    discriminator: Discriminator, real: NoisyBatch, x0: State, *, with_gradient: bool
) -> tuple[Tensor, State]:
    if with_gradient:
        return logit_and_gradient(discriminator, real.states, real.levels, real.pooled, create_graph=True, x0=x0)
    return logit(discriminator, real.states, real.levels, real.pooled, x0=x0), {}


def _fake_logit(
    discriminator: nn.Module,
    predict: BasePrediction,
    real: NoisyBatch,
    fake: NoisyBatch | None,
    x0: State,
    groups: int | None,
) -> Tensor:
    """Return the logit of the fakes; without any, of the real states re-paired, and with them what was predicted."""
    if fake is None:
        wrong = replace(real, states=mismatched(real.states, groups))
        if x0:  # what was predicted moves with the states, unless they were under other texts
            x0 = mismatched(x0, groups) if _share_conditions(real, groups) else predict(wrong).x0
        return logit(discriminator, wrong.states, wrong.levels, wrong.pooled, x0=x0)
    x0 = predict(fake).x0 if reads_x0(discriminator) else {}
    return logit(discriminator, fake.states, fake.levels, fake.pooled, x0=x0)


def _share_conditions(batch: NoisyBatch, groups: int | None) -> bool:
    """Return whether each state would be predicted under the same condition beside its partners as beside its own."""
    step = len(next(iter(batch.states.values()))) // (groups or len(batch.states))
    for k, m in enumerate(batch.states):
        payload = batch.conditions[m].positive if m in batch.conditions else None
        parts = list(payload.values()) if isinstance(payload, Mapping) else [payload]
        if any(part is not None and not torch.equal(part, part.roll(k * step, 0)) for part in parts):
            return False
    return True
