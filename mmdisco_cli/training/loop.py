"""The training loop: one function for every network here, from a laptop to `torchrun`, and the context it works in.

All randomness of step k comes from a generator keyed by (seed, rank, k), so a run that was killed and started again
ends in the same weights, bit for bit on one CPU with one number of threads, without any generator's state being saved.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mmdisco_cli.devices import keep_large_blocks
from mmdisco_cli.errors import DataError
from mmdisco_cli.recipes.schema import Recipe, TrainConfig
from mmdisco_cli.run import console
from mmdisco_cli.run.distribution import Ranks, any_rank, average_gradients, gathered
from mmdisco_cli.run.signals import SignalFlag
from mmdisco_cli.training.checkpoint import STATE, TrainState, load_state, save_state
from mmdisco_cli.training.directory import RunDirectory
from mmdisco_cli.training.metrics import MetricsLog, ProgressCallback, StepCallback, Tracker, hide, not_finite

STEADIER = "train.learning_rate lower, train.warmup longer, train.clip=1 or lower"
"""What to try where a training is not stable."""
Loss = Callable[[torch.Generator], tuple[Tensor, Mapping[str, float]]]
"""Draws its own batch from the generator; returns the scalar to minimise and the figures to log."""


class Observer(Protocol):
    """What looks at a stage while it is trained, on all ranks, and changes nothing of it."""

    def begin(self, state: TrainState, log: MetricsLog) -> None:
        """Look at the state that training begins with, or goes on from."""

    def after(self, state: TrainState, row: Mapping[str, Any] | None) -> str:
        """Look at the state after a step and at the line of figures that it has completed, before it is saved.

        Return why training must stop, the same on all ranks; empty where it need not.
        """

    def end(self, error: Exception | None = None) -> None:
        """Look at what is there when all steps are taken, or when an `error`, a signal's `Stopped` too, ends it."""


@dataclass(frozen=True)
class Context:
    """What one process of a training works in: its directory and recipe, its device, and the other processes.

    `progress` returns, for the title of a stage, what that stage reports its steps to; lines of figures go to the
    `trackers` too. Checkpoints carry the `fingerprint` and are read only by a run of the same one.
    """

    directory: RunDirectory
    device: torch.device
    ranks: Ranks = field(default_factory=Ranks)
    stop: SignalFlag = field(default_factory=SignalFlag)
    progress: Callable[[str], StepCallback] = hide
    fingerprint: str = ""
    trackers: Sequence[Tracker] = ()

    @property
    def recipe(self) -> Recipe:
        """Return what is trained."""
        return self.directory.recipe

    @property
    def batch(self) -> int:
        """Return how many tuples or clips this rank takes at once, `accumulate` times a step."""
        return max(self.recipe.train.batch_size // (self.ranks.world * self.recipe.train.accumulate), 1)

    def log(self, stage: str) -> MetricsLog:
        """Return where a stage's figures go."""
        every, first = self.recipe.train.log_every, self.ranks.first
        return MetricsLog(self.directory.metrics, stage, every, self.progress(stage), first, self.trackers)

    def counter(self, title: str) -> ProgressCallback:
        """Return what a stage without figures reports its count to."""
        report = self.progress(title)
        return lambda done, total: report(done, total, {})

    def say(self, text: str) -> None:
        """Print a line for the user, once for all ranks."""
        if self.ranks.first:
            console.note(text)

    def must_stop(self) -> bool:
        """Return whether any rank has received a signal, the same answer on all of them; waits for all."""
        return any_rank(self.stop.received, self.ranks, self.device)

    def wait(self) -> None:
        """Go on when every rank has come this far."""
        any_rank(False, self.ranks, self.device)


def step_generator(seed: int, rank: int, step: int) -> torch.Generator:
    """Return the CPU generator of one optimiser step on one rank."""
    digest = hashlib.sha256(f"train:{seed}:{rank}:{step}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)


def learning_rate(step: int, config: TrainConfig, steps: int) -> float:
    """Return the rate of a step: linear warm-up, then half a cosine down to zero."""
    warm = min(1.0, (step + 1) / max(config.warmup, 1))
    return config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / steps))


def fit(
    module: nn.Module, loss: Loss, context: Context, stage: str, steps: int, observer: Observer | None = None
) -> None:
    """Minimise `loss` over `module`, which ends holding the averaged (EMA) weights.

    The folder `stage` of the run receives `state.pt` every `checkpoint_every` steps; a run found there is continued.
    Its learning rate depends on the step and on `steps` alone: where `steps` has grown since, it goes on on the longer
    schedule. The `observer` looks at every step before its state is saved.

    Raises:
        DataError: the saved state is another run's, the loss is no longer finite (the last good checkpoint stays), or
            the observer has stopped it (the state is saved).
        Stopped: a signal came; the state is saved.
    """
    config, path, log = context.recipe.train, context.directory.path / stage / STATE, context.log(stage)
    state = TrainState(module, _optimizer(module, config), step=0)
    load_state(path, state, context.fingerprint, first=context.ranks.first)
    _require_one_step(state, context, path)
    log.rewind(state.step, state.unlogged)
    if observer:
        observer.begin(state, log)
    if context.device.type == "cpu":  # after encoders have been freed, which this would keep from the system
        keep_large_blocks()
    module.train()
    try:
        _take_steps(state, loss, context, log, path, steps, observer)
    except Exception as error:
        if observer:
            observer.end(error)
        raise
    state.install_average()
    module.eval()
    if observer:
        observer.end()


def _take_steps(
    state: TrainState, loss: Loss, context: Context, log: MetricsLog, path: Path, steps: int, observer: Observer | None
) -> None:
    """Take all steps that are left; errors as for `fit`."""
    config = context.recipe.train
    while state.step < steps:
        figures = _step(state, loss, config, context.ranks, steps)
        _refuse(not_finite(figures), state.step + 1, path)
        state.step += 1
        row = log.write(state.step, steps, figures)
        failing = observer.after(state, row) if observer else ""
        stopping = context.must_stop()
        if stopping or failing or state.step % config.checkpoint_every == 0 or state.step == steps:
            state.unlogged = log.unlogged
            _save(state, path, context)
        if failing:
            context.wait()
            ways = "train.on_failure=warn goes on from it, --fresh begins again, as other keys require"
            raise DataError(f"{failing}; state saved at step {state.step} of {steps}: {ways}")
        if stopping and state.step < steps:
            context.wait()  # launchers kill the rank that still writes soon after the first one has left
            context.stop.leave(f"at step {state.step} of {steps}")


def _require_one_step(state: TrainState, context: Context, path: Path) -> None:
    """Raise DataError, on all ranks alike, where they have not read the same checkpoint."""
    steps = gathered(state.step, context.ranks, context.device)
    if len(set(steps)) > 1:
        read = ", ".join(map(str, steps))
        raise DataError(f"{path}: ranks have read it at different steps ({read}); start them again")


def _optimizer(module: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    # Gains, biases and embeddings are not decayed: decay is for matrices.
    matrices = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
    others = [p for p in module.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    # Fused: on a CPU about a fifth of the time.
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99), fused=True)


def _step(state: TrainState, loss: Loss, config: TrainConfig, ranks: Ranks, steps: int) -> dict[str, float]:
    rate = learning_rate(state.step, config, steps)
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    state.optimizer.zero_grad(set_to_none=True)
    figures = _backward(loss, config, ranks, state.step)
    average_gradients(state.module.parameters(), ranks)
    norm = nn.utils.clip_grad_norm_(state.module.parameters(), config.clip or math.inf)
    if math.isfinite(float(norm)):
        state.optimizer.step()
        state.update_average(config.ema)
    return {**figures, "grad_norm": float(norm), "learning_rate": rate}


def _backward(loss: Loss, config: TrainConfig, ranks: Ranks, step: int) -> dict[str, float]:
    """Backpropagate the mean loss of `accumulate` batches, one after the other; return the means of their figures.

    They are those that so many times more ranks would draw, so that ranks and parts can stand for one another.
    """
    parts, means = config.accumulate, dict[str, float]()
    for part in range(parts):
        value, figures = loss(step_generator(config.seed, ranks.rank * parts + part, step))
        (value / parts).backward()
        for name, figure in {"loss": float(value.detach()), **figures}.items():
            means[name] = means.get(name, 0.0) + figure / parts
    return means


def _save(state: TrainState, path: Path, context: Context) -> None:
    # Figures are those before the update, so they say nothing of what is kept.
    _refuse(_not_finite_weight(state), state.step, path)
    if context.ranks.first:
        save_state(path, state, context.fingerprint)


def _refuse(bad: str, step: int, path: Path) -> None:
    """Raise DataError at what is not finite, if anything is named."""
    if bad:
        kept = f"the last good checkpoint is {path}" if path.exists() else "no checkpoint had been written"
        raise DataError(f"training diverged at step {step}: {bad} is not finite; {kept}; try {STEADIER}")


def _not_finite_weight(state: TrainState) -> str:
    weights = (*state.module.named_parameters(), *state.average.items())
    return next((name for name, weight in weights if not bool(weight.isfinite().all())), "")
