"""`train.target: discriminator`: real and fake tuples of latents at paired noise levels; bases are only ever asked."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mmdisco_cli.diffusion.backbone import Base, State
from mmdisco_cli.diffusion.coupling import Coupling, coupled_levels, given_levels
from mmdisco_cli.diffusion.denoise import Prediction, predict_bases, unguided_scales
from mmdisco_cli.diffusion.guidance import LogSNRWindow
from mmdisco_cli.diffusion.schedules import Levels
from mmdisco_cli.recipes.schema import TrainConfig
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.training.joint import joint_losses
from mmdisco_cli.training.loop import Loss, fit
from mmdisco_cli.training.metrics import MetricsLog
from mmdisco_cli.training.signals import StopFlag
from mmdisco_cli.training.time_law import draw_progress

Draw = Callable[[int, torch.Generator], State]
"""Return clean tuples: how many, drawn from a generator."""


@dataclass(frozen=True)
class Pairing:
    """Which noise levels of the modalities a discriminator is shown, and must then be sampled with."""

    bases: Sequence[Base]
    coupling: Coupling
    given_fraction: float

    def draw(self, config: TrainConfig, batch: int, generator: torch.Generator) -> dict[str, Levels]:
        """Return each modality's levels (B,).

        In a share of the rows one base model's modalities are almost clean while the others keep their level: what
        `--given` walks. A model of several modalities was never trained with a gap between them, so they go together.
        """
        first = self.bases[0]
        name = next(iter(first.modalities))
        u = draw_progress(config.time_law, lambda v: first.backbone.levels_at(v, first.plan)[name], batch, generator)
        levels = coupled_levels(self.bases, u, self.coupling)
        if not self.given_fraction or len(self.bases) == 1:
            return levels
        held = torch.rand(batch, generator=generator) < self.given_fraction
        which = torch.randint(len(self.bases), (batch,), generator=generator)
        clean = given_levels(self.bases)
        return {
            m: Levels(*(torch.where(held & (which == k), c, x) for c, x in zip(clean[m], levels[m], strict=True)))
            for k, base in enumerate(self.bases)
            for m in base.modalities
        }


def discriminator_loss(
    discriminator: nn.Module,
    pairing: Pairing,
    real: Draw,
    fake: Draw | None,
    window: LogSNRWindow,
    config: TrainConfig,
    batch: int,
    device: torch.device,
) -> Loss:
    """Return the loss of one step; without a source of fakes, real tuples are re-paired at random."""
    groups = 1 if fake else sum(len(base.modalities) for base in pairing.bases)
    dtype = torch.bfloat16 if config.dtype == "bfloat16" else torch.float32

    def base(noisy: State, levels: Mapping[str, Levels]) -> Prediction:
        return predict_bases(pairing.bases, noisy, levels, unguided_scales(noisy), dtype)

    def loss(generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        each = max(batch // groups, 1)
        clean = _on(device, real(each * groups, generator))
        wrong = _on(device, fake(each * groups, generator)) if fake else None
        levels = repeated(pairing.draw(config, each, generator), groups)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return joint_losses(discriminator, base, clean, wrong, levels, window, config, generator)

    return loss


def repeated(levels: Mapping[str, Levels], times: int) -> dict[str, Levels]:
    """Return levels (B,) as (times * B,), the whole batch again and again."""
    return {m: Levels(*(part.repeat(times) for part in level)) for m, level in levels.items()}


def _on(device: torch.device, state: Mapping[str, Tensor]) -> State:
    return {m: x.to(device) for m, x in state.items()}


def from_banks(banks: Mapping[str, Tensor]) -> Draw:
    """Return tuples drawn at random from latents of the same clips, each (N, ...)."""
    count = len(next(iter(banks.values())))

    def draw(batch: int, generator: torch.Generator) -> State:
        rows = torch.randint(count, (batch,), generator=generator)
        return {m: bank[rows].float() for m, bank in banks.items()}

    return draw


def train_discriminator(
    discriminator: nn.Module,
    pairing: Pairing,
    real: Draw,
    fake: Draw | None,
    window: LogSNRWindow,
    config: TrainConfig,
    directory: Path,
    fingerprint: str,
    stop: StopFlag,
    ranks: Ranks,
    log: Callable[[str], MetricsLog],
    device: torch.device,
) -> None:
    """Train a discriminator in place; it ends holding its averaged weights."""
    batch = max(config.batch_size // ranks.world, 1)
    loss = discriminator_loss(discriminator, pairing, real, fake, window, config, batch, device)
    fit(discriminator, loss, config, directory / "discriminator", steps=config.steps, fingerprint=fingerprint,
        stop=stop, ranks=ranks, log=log("discriminator"))  # fmt: skip
