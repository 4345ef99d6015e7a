"""How far a discriminator's gradient is from the score that it should be.

Residual-score error, at one noise level: sqrt(E ||s' - s||^2 / E ||s||^2) over x ~ p_u, where s = sigma (grad log p_u -
grad log q_u) is what the backbones miss and s' = sigma grad l is what the discriminator gives, both in units of
noise and summed over the modalities. The backbones' own predictions stand for q_u. The joint-score error divides the
same numerator by E ||sigma grad log p_u||^2. Over several levels, here those of the sampler inside the guidance window,
both expectations are averaged before the ratio is taken.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.diffusion.coupling import coupled_grid
from mmdisco_cli.diffusion.denoise import predict_bases
from mmdisco_cli.diffusion.guidance import Discriminator, LogSNRWindow, logit_and_gradient
from mmdisco_cli.diffusion.schedules import Levels, log_snr
from mmdisco_cli.errors import UsageError
from mmdisco_cli.evaluation.tables import align, number
from mmdisco_cli.measures.bootstrap import Measure, estimate, ratio
from mmdisco_cli.recipes.schema import SampleConfig
from mmdisco_cli.toys.gaussians.mixture import Mixture

POINTS = 4096
"""Points at each noise level."""
FAINT = 1e-6
"""A residual of this square is rounding, and nothing can be relative to it."""
BANDS = ((-4.5, -1.0), (-1.0, 0.0), (0.0, 1.0), (1.0, 2.0), (2.0, 4.0))
"""Log-SNR of the rows of the table."""


@dataclass(frozen=True)
class LevelErrors:
    """Squares (N, L) of N points at levels of log-SNR `log_snr` (L,): of the error, the residual, the joint score."""

    log_snr: Tensor
    error: Tensor
    residual: Tensor
    joint: Tensor

    def relative(self, to: Tensor, inside: Tensor | slice = slice(None)) -> float:
        """Return sqrt(error / to) with both summed over the levels chosen; not a number where there are none."""
        return float(_root_ratio(self.error[:, inside], to[:, inside]).value)

    def metrics(self, seed: int) -> dict[str, Any]:
        """Return the overall errors with their intervals, and lists with an entry for each level."""
        error, residual, joint = (one.mean(0) for one in (self.error, self.residual, self.joint))
        pairs = zip(error.tolist(), residual.tolist(), strict=True)
        return {
            "residual_error": _estimated(self.error, self.residual, seed),
            "joint_error": {
                "independent": _estimated(self.residual, self.joint, seed),
                "guided": _estimated(self.error, self.joint, seed),
            },
            "by_level": {
                "log_snr": self.log_snr.tolist(),
                "residual_error": [math.sqrt(e / r) if r > FAINT else None for e, r in pairs],
                "joint_error": (error / joint).sqrt().tolist(),
                "residual_share": (residual / residual.sum()).tolist(),
            },
        }


def _root_ratio(over: Tensor, under: Tensor) -> Measure:
    """Return the root of the ratio of the sums of two lots of squares (N, L), which can be resampled by point."""
    return Measure(torch.stack([over.sum(1), under.sum(1)], 1), lambda totals: ratio(totals).sqrt())


def _estimated(over: Tensor, under: Tensor, seed: int) -> dict[str, float | None]:
    return estimate(_root_ratio(over, under), seed).as_json()


def score_errors(assembly: Assembly, mixture: Mixture, config: SampleConfig, seed: int) -> LevelErrors:
    """Return the errors of the discriminator's gradient at the sampler's levels inside the window."""
    grid = coupled_grid(assembly.bases, config.steps, assembly.coupling)
    generator = torch.Generator().manual_seed(seed)
    found = []
    for step in range(config.steps):
        levels = {m: whole.at(step) for m, whole in grid.items()}
        if all(_inside(level, config.window) for level in levels.values()):
            x = mixture.draw(POINTS, generator).to(assembly.device)
            noise = torch.randn(x.shape, generator=generator).to(x)
            lam = log_snr(*next(iter(levels.values()))[1:])
            found.append((lam, *_squares(assembly, mixture, levels, x, noise)))
    if not found:
        raise UsageError(f"sample.window: none of the {config.steps} steps lies inside {list(config.window)}")
    log_snrs, *squares = zip(*found, strict=True)
    return LevelErrors(torch.stack(log_snrs).cpu(), *(torch.stack(one, 1) for one in squares))


def _squares(
    assembly: Assembly, mixture: Mixture, levels: Mapping[str, Levels], x0: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the squares (N,) of error, residual and joint score at one level."""
    alpha, sigma = columns(levels, x0)
    x = alpha * x0 + sigma * noise
    state = split(x, tuple(levels))
    base = join(predict_bases(assembly.bases, state, levels).epsilon, levels)
    joint = mixture.denoise(x, alpha, sigma)[1]
    learned = sigma * join(logit_and_gradient(_discriminator(assembly), state, levels)[1], levels)
    # With epsilon = -sigma * score, what the bases miss is base - joint.
    parts = (learned - (base - joint), base - joint, joint)
    error, residual, whole = (part.double().square().sum(1).cpu() for part in parts)
    return error, residual, whole


def level_table(errors: LevelErrors) -> list[str]:
    """Return the errors in bands of log-SNR; a band with hardly any of the residual matters as little."""
    rows = [["log-SNR", "residual error \u2193", "joint error \u2193", "share of residual"]]
    for low, high in BANDS:
        inside = (errors.log_snr >= low) & (errors.log_snr < high)
        cells = (errors.relative(errors.residual, inside), errors.relative(errors.joint, inside))
        share = float(errors.residual[:, inside].sum() / errors.residual.sum())
        rows.append([f"{low:g} to {high:g}", *map(number, cells), number(share)])
    overall = (errors.relative(errors.residual), errors.relative(errors.joint))
    return align([*rows, ["all", *map(number, overall), number(1)]])


def columns(levels: Mapping[str, Levels], like: Tensor) -> tuple[Tensor, Tensor]:
    """Return alpha and sigma (1, M) of scalar levels."""
    alpha, sigma = (torch.stack([getattr(level, name) for level in levels.values()]) for name in ("alpha", "sigma"))
    return alpha[None].to(like), sigma[None].to(like)


def join(state: Mapping[str, Tensor], names: Iterable[str]) -> Tensor:
    """Return the scalars (B, 1) of the modalities named as columns (B, M)."""
    return torch.cat([state[m] for m in names], dim=1)


def split(x: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Return columns (B, M) as scalars (B, 1) by modality."""
    return dict(zip(names, x.split(1, dim=1), strict=True))


def _discriminator(assembly: Assembly) -> Discriminator:
    if assembly.discriminator is None:
        raise UsageError("the residual score of no discriminator cannot be measured")
    return assembly.discriminator.module


def _inside(level: Levels, window: LogSNRWindow) -> bool:
    lam = float(log_snr(level.alpha, level.sigma))
    return window[0] <= lam <= window[1] and float(level.alpha) > 0
