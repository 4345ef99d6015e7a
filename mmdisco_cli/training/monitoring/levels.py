"""What guidance takes away of the base models' error on held-out clips, by noise level."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.devices import DTYPES
from mmdisco_cli.diffusion.backbone import Base
from mmdisco_cli.diffusion.coupling import coupled_levels
from mmdisco_cli.diffusion.denoise import predict_bases, unguided_scales
from mmdisco_cli.diffusion.guidance import LogSNRWindow, logit_and_gradient
from mmdisco_cli.diffusion.schedules import Levels, log_snr
from mmdisco_cli.recipes.schema import TrainConfig
from mmdisco_cli.training.batch import NoisyBatch, noised
from mmdisco_cli.training.conditions import Conditions, conditioned, encoded_of
from mmdisco_cli.training.data import BatchSource
from mmdisco_cli.training.loop import step_generator
from mmdisco_cli.training.losses import denoise_loss
from mmdisco_cli.training.report import BATCHES, LOG_SNR, MEASURE

GRID = 4097
FIRST = 2 * BATCHES
"""The number of the generator of the first level; those before it are of other measures."""


@torch.no_grad()
def gain_by_level(
    module: nn.Module, assembly: Assembly, real: BatchSource, config: TrainConfig, window: LogSNRWindow
) -> dict[str, float]:
    """Return the gain at each whole log-SNR of the first modality at which guidance acts.

    Clips, noise and levels are the same at every call.
    """
    clean = real(config.batch_size, step_generator(config.seed, MEASURE, FIRST)).to(assembly.device)
    conditions = Conditions(assembly, encoded_of(real)).of(clean.texts)
    found: dict[str, float] = {}
    for k, (lam, u) in enumerate(_progress_at(assembly.bases, LOG_SNR)):
        levels = coupled_levels(assembly.bases, u.repeat(len(clean)), assembly.coupling)
        noisy = noised(clean, levels, step_generator(config.seed, MEASURE, FIRST + 1 + k))
        gain = _gain(module, assembly, replace(noisy, conditions=conditions), config, window)
        found |= {} if gain is None else {f"{lam:+d}": round(gain, 5)}
    return found


def _gain(
    module: nn.Module, assembly: Assembly, noisy: NoisyBatch, config: TrainConfig, window: LogSNRWindow
) -> float | None:
    """Return the share of the base models' error that guidance removes, None outside its window."""
    dtype = DTYPES[config.dtype]
    models = conditioned(assembly.bases, noisy.conditions)
    with torch.autocast(assembly.device.type, dtype, enabled=dtype != torch.float32):
        alone = predict_bases(models, noisy.states, noisy.levels, unguided_scales(noisy.states), dtype)
        _, gradient = logit_and_gradient(module, noisy.states, noisy.levels, noisy.pooled, x0=alone.x0)
    guided, unguided = denoise_loss(noisy.noise, alone.epsilon, gradient, noisy.levels, window, config.denoise_space)
    return float(1 - guided / unguided) if unguided > 0 else None


def _progress_at(bases: Sequence[Base], log_snrs: Sequence[int]) -> list[tuple[int, Tensor]]:
    """Return the progress u (1,) at which the first modality has each log-SNR that its schedule reaches."""
    first = bases[0]
    u = torch.linspace(0, 1, GRID, dtype=torch.float64)
    reached = _log_snr(first.backbone.levels_at(u, first.plan)[next(iter(first.modalities))])
    places = [int((reached - lam).abs().argmin()) for lam in log_snrs]
    return [
        (lam, u[k : k + 1].float()) for lam, k in zip(log_snrs, places, strict=True) if abs(reached[k] - lam) < 0.25
    ]


def _log_snr(levels: Levels) -> Tensor:
    return log_snr(levels.alpha, levels.sigma).double().nan_to_num(posinf=1e9, neginf=-1e9)
