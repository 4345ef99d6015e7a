"""The training loop: one function for every network here, from a laptop to `torchrun`.

All randomness of step k comes from a generator keyed by (seed, rank, k), so a run that was killed and started again
ends in the same weights, bit for bit on one CPU with one number of threads, without any generator's state being saved.
"""

import hashlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from mmdisco_cli.errors import DataError
from mmdisco_cli.recipes.schema import TrainConfig
from mmdisco_cli.run.distribution import Ranks, average_gradients
from mmdisco_cli.training.checkpoint import STATE, TrainState, load_state, save_state
from mmdisco_cli.training.metrics import MetricsLog, not_finite
from mmdisco_cli.training.signals import StopFlag

Loss = Callable[[torch.Generator], tuple[Tensor, Mapping[str, float]]]
"""Draws its own batch from the generator; returns the scalar to minimise and the figures to log."""


def step_generator(seed: int, rank: int, step: int) -> torch.Generator:
    """Return the CPU generator of one optimiser step on one rank."""
    digest = hashlib.sha256(f"train:{seed}:{rank}:{step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def learning_rate(step: int, config: TrainConfig, steps: int) -> float:
    """Return the rate of a step: linear warm-up, then half a cosine down to zero."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    return config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps))


def fit(
    module: nn.Module,
    loss: Loss,
    config: TrainConfig,
    directory: Path,
    *,
    steps: int,
    fingerprint: str,
    stop: StopFlag,
    ranks: Ranks,
    log: MetricsLog,
) -> None:
    """Minimise `loss` over `module`, which ends holding the averaged (EMA) weights.

    `directory` receives `state.pt` every `config.checkpoint_every` steps; a run found there is continued. Its learning
    rate depends on the step and on `steps` alone: where `steps` has grown since, it goes on on the longer schedule.

    Raises:
        DataError: the saved state is another run's, or the loss is no longer finite (the last good checkpoint stays).
        Stopped: a signal came; the state is saved.
    """
    state = TrainState(module, _optimizer(module, config), step=0)
    path = directory / STATE
    load_state(path, state, fingerprint, first=ranks.first)
    log.rewind(state.step, state.window)
    module.train()
    while state.step < steps:
        figures = _step(state, loss, config, steps, ranks)
        _refuse(not_finite(figures), state.step + 1, path)
        state.step += 1
        log.write(state.step, steps, figures)
        stopping = stop.agreed(ranks)
        if stopping or state.step % config.checkpoint_every == 0 or state.step == steps:
            # Figures are those before the update, so they say nothing of what is kept.
            _refuse(_not_finite_weight(state), state.step, path)
            state.window = log.window
            if ranks.first:
                save_state(path, state, fingerprint)
        if stopping and state.step < steps:
            stop.leave(state.step, steps)
    state.install_average()
    module.eval()


def _optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    # Gains, biases and embeddings are not decayed: decay is for matrices.
    matrices = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in module.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99))


def _step(state: TrainState, loss: Loss, config: TrainConfig, steps: int, ranks: Ranks) -> dict[str, float]:
    rate = learning_rate(state.step, config, steps)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.zero_grad(set_to_none=True)
    value, figures = loss(step_generator(config.seed, ranks.rank, state.step))
    value.backward()
    average_gradients(state.module.parameters(), ranks)
    norm = nn.utils.clip_grad_norm_(state.module.parameters(), config.clip or math.inf)
    if math.isfinite(float(norm)):
        state.optimizer.step()
        state.update_average(config.ema)
    return {"loss": float(value.detach()), **figures, "grad_norm": float(norm), "learning_rate": rate}


def _refuse(bad: str, step: int, path: Path) -> None:
    """Raise DataError at what is not finite, if anything is named."""
    if bad:
        kept = f"the last good checkpoint is {path}" if path.exists() else "no checkpoint had been written"
        raise DataError(f"training diverged at step {step}: {bad} is not finite; {kept}")


def _not_finite_weight(state: TrainState) -> str:
    weights = (*state.module.named_parameters(), *state.average.items())
    return next((name for name, weight in weights if not bool(weight.isfinite().all())), "")
