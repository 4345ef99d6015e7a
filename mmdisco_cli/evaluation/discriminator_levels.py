"""A discriminator's logit for real clips by noise level: dependence on the pair, and accuracy on shuffled ones."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.diffusion.backbone import Base, State
from mmdisco_cli.diffusion.coupling import coupled_levels
from mmdisco_cli.diffusion.denoise import logit_of
from mmdisco_cli.diffusion.guidance import Discriminator, LogSNRWindow
from mmdisco_cli.diffusion.noise import sample_noise
from mmdisco_cli.diffusion.prediction import add_noise
from mmdisco_cli.diffusion.schedules import Levels, log_snr
from mmdisco_cli.discriminators.interaction import interaction_of, interaction_sums, mismatched_tuples
from mmdisco_cli.measures.bootstrap import (
    FIRST,
    Estimate,
    Influenced,
    Measure,
    estimate,
    mean_influenced,
    mean_measure,
    mean_of,
)

LEVELS = tuple(round(0.05 + 0.1 * k, 2) for k in range(10))
"""Progress u at which the discriminator is evaluated: 0 is data, 1 noise."""
LEAST = 4
"""Clips that it takes to form two pairs of which no half belongs to another."""
CHUNK = 64
BINS = 10


@dataclass(frozen=True)
class LevelFigures:
    """A discriminator at one level: log-SNR by modality, and what is measured, by name.

    `interaction` is in [0, 1], `accuracy` a half by chance, `logit` the mean for real tuples, `shuffled` for shuffled
    ones, `calibration` the expected calibration error of its probability of real. A tuple of
    several clips counts as one of that which its first modality is of.
    """

    u: float
    log_snr: Mapping[str, float]
    figures: Mapping[str, Measure | Influenced]

    def inside(self, window: LogSNRWindow) -> bool:
        """Return whether every modality is guided at this level."""
        return all(window[0] <= value <= window[1] for value in self.log_snr.values())


def measure_levels(assembly: Assembly, clean: Mapping[str, Tensor], seed: int) -> list[LevelFigures]:
    """Evaluate the assembly's discriminator on latents (N, ...) of N >= 4 real clips, in random order.

    A clip has the same noise in every pair, and no text. Raise ValueError without a discriminator or for fewer clips.
    """
    if assembly.discriminator is None or len(next(iter(clean.values()))) < LEAST:
        raise ValueError(f"it takes a discriminator and at least {LEAST} clips")
    module, bases, noise = assembly.discriminator.module, assembly.bases, noise_of(clean, seed)
    found, pooled = [], assembly.pooled_without_text
    for u in LEVELS:
        levels = coupled_levels(bases, torch.tensor([u]), assembly.coupling)
        at = {m: level.at(0) for m, level in levels.items()}
        noisy = {m: add_noise(x, noise[m].to(x), at[m].alpha, at[m].sigma) for m, x in clean.items()}
        lam = {m: float(log_snr(level.alpha, level.sigma)) for m, level in at.items()}
        logit = in_chunks(module, bases, at, pooled)
        found.append(LevelFigures(u, lam, figures_of(logit, noisy)))
    return found


def noise_of(clean: Mapping[str, Tensor], seed: int) -> State:
    """Return noise like the latents (N, ...), the same for a clip however many there are."""
    return {
        m: torch.stack([sample_noise(seed, i, m, "judged", x.shape[1:]) for i in range(len(x))])
        for m, x in clean.items()
    }


def in_chunks(
    discriminator: Discriminator,
    bases: Sequence[Base],
    levels: Mapping[str, Levels],
    pooled: Mapping[str, Tensor] | None = None,
) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """Return the logit (N,) of noisy states (N, ...) at levels (), without gradient and however many they are.

    `pooled` (1, D) is the condition that all of them have.
    """

    @torch.no_grad()
    def logit(x: Mapping[str, Tensor]) -> Tensor:
        count = len(next(iter(x.values())))
        pieces = [{m: s[i : i + CHUNK] for m, s in x.items()} for i in range(0, count, CHUNK)]
        return torch.cat([of_piece(piece) for piece in pieces]).cpu()

    def of_piece(x: Mapping[str, Tensor]) -> Tensor:
        texts = {m: one.expand(len(x[m]), -1) for m, one in pooled.items()} if pooled else None
        return logit_of(discriminator, bases, x, levels, texts)

    return logit


def figures_of(
    logit: Callable[[Mapping[str, Tensor]], Tensor], real: Mapping[str, Tensor]
) -> dict[str, Measure | Influenced]:
    """Return the figures of a logit for noisy real tuples (N, ...) and for shuffled ones."""
    yes = logit(real).double()
    no = logit({m: x.roll(-k, 0) for k, (m, x) in enumerate(real.items())}).double()
    right = (2 + yes.sign() - no.sign()) / 4
    return {
        "interaction": Measure(interaction_sums(logit, *mismatched_tuples(real)), interaction_of),
        "accuracy": mean_of(right.tolist()),
        "logit": mean_of(yes.tolist()),
        "shuffled": mean_of(no.tolist()),
        "calibration": calibration(yes, no),
    }


def calibration(yes: Tensor, no: Tensor) -> Influenced:
    """Return the expected calibration error over ten bins of logits (N,) of real and of shuffled tuples.

    Guo et al. (2017): by probability of real in equal bins, weighted by how many tuples fall into each.
    """
    logits = torch.stack([yes, no])
    probability = logits.sigmoid()
    off = probability - torch.tensor([[1.0], [0.0]]).to(probability)
    place = (probability * BINS).long().clamp_max(BINS - 1)
    gaps = torch.zeros(BINS, dtype=off.dtype).scatter_add_(0, place.flatten(), off.flatten()) / off.numel()
    by_clip = (off * gaps.sign()[place]).sum(0) / off.numel()
    return Influenced(gaps.abs().sum(), {FIRST: by_clip - by_clip.mean()}, least=0.0, most=1.0)


def inside_or_all(found: Sequence[LevelFigures], window: LogSNRWindow) -> Sequence[LevelFigures]:
    """Return the levels at which guidance acts; all where it acts at none."""
    return [one for one in found if one.inside(window)] or found


def summary(found: Sequence[LevelFigures], name: str, window: LogSNRWindow, seed: int) -> Estimate:
    """Return the mean of a figure over the levels at which guidance acts, of which a clip is drawn at all together."""
    return estimated([one.figures[name] for one in inside_or_all(found, window)], seed)


def estimated(figures: Sequence[Measure | Influenced], seed: int) -> Estimate:
    """Return the mean of figures of one kind with its interval."""
    influenced = [one for one in figures if isinstance(one, Influenced)]
    if influenced:
        return mean_influenced(influenced).estimate(seed)
    return estimate(mean_measure([one for one in figures if isinstance(one, Measure)]), seed)
