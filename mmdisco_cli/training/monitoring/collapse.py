"""The sign that a discriminator has collapsed: it tells nothing apart, or is sure of everything."""

from statistics import fmean, median

from mmdisco_cli.training.monitoring.lasting import CHANCE, Row, Rows, Sign, last_of, since_when

NEAR_CHANCE, UNLEARNT = 0.015, (0.992 * CHANCE, 1.5 * CHANCE)
"""Distance of the accuracy from one half, and the disc loss, of one that has learnt nothing; above, it is unstable."""
STILL = 0.001 * CHANCE
"""How far from chance the disc loss of a logit near 0 is: no accuracy of that says that anything was learnt."""
UNMOVED = 0.001
"""The gain up to which guidance changes nothing, where Eq. (5) alone is trained."""
USEFUL = 0.01
"""The gain from which on guidance is of use, whatever the classification says."""
SURE, SATURATED, VANISHED = 0.995, 0.02, 0.05
"""The accuracy, the disc loss and the share left of the gradient's norm where the logit is saturated."""


def collapse(rows: Rows, steps: int, warmup: int) -> Sign | None:
    """Return the sign that the discriminator is stuck at chance, or sure of everything with a vanishing gradient.

    Either lasts for a quarter of all steps after the warm-up, and guidance does not lower the base models' error.
    """
    late = [row for row in rows if row["step"] > warmup and ("accuracy" in row or "gain" in row)]
    window = last_of(late, steps)
    if window and all(map(_has_no_error, window)):
        return _never_guided(late)
    if not window or fmean(row.get("gain", 0.0) for row in window) >= USEFUL:
        return None
    return (
        (_unlearnt(window, late) or _saturated(rows, window, late))
        if "accuracy" in window[0]
        else _unmoved(window, late)
    )


def _never_guided(late: Rows) -> Sign:
    """Return the sign that Eq. (5) has no term: that an error is exactly 0 has no other reason."""
    return Sign(
        "guidance without effect",
        "none of the noise levels that are trained lies in sample.window, denoise 0",
        since_when(late, _has_no_error),
        "train.noise_levels.mean, sample.window",
    )


def _has_no_error(row: Row) -> bool:
    return row.get("denoise") == 0.0


def _unlearnt(window: Rows, late: Rows) -> Sign | None:
    """Return the sign that nothing is told apart: classification is as by chance, or the logit hardly leaves 0."""
    accuracy, disc = (fmean(row[name] for row in window) for name in ("accuracy", "disc"))
    still = abs(disc - CHANCE) <= STILL
    if not still and (abs(accuracy - 0.5) > NEAR_CHANCE or not UNLEARNT[0] <= disc <= UNLEARNT[1]):
        return None
    chance = " is chance" if abs(accuracy - 0.5) <= NEAR_CHANCE else ", but the logit is hardly other than 0"
    return Sign(
        "discriminator collapse",
        f"accuracy {accuracy:.3f}{chance}, disc {disc:.3f} of {CHANCE:.3f}",
        since_when(late, _is_unlearnt),
        "train.learning_rate, train.noise_levels.mean, a larger discriminator; or the modalities are independent",
    )


def _is_unlearnt(row: Row) -> bool:
    """Return whether one row, which varies more than a mean of many, is of a discriminator that has learnt nothing."""
    return bool(min(abs(row["accuracy"] - 0.5) / NEAR_CHANCE, abs(row["disc"] - CHANCE) / STILL) <= 3)


def _unmoved(window: Rows, late: Rows) -> Sign | None:
    """Return the sign that guidance changes nothing, where no classification is trained that would show it."""
    gain = max(abs(row["gain"]) for row in window)
    if gain > UNMOVED:
        return None
    return Sign(
        "discriminator collapse",
        f"guidance changes nothing, gain {gain:.2g} at most",
        since_when(late, lambda row: abs(row["gain"]) <= UNMOVED),
        "train.learning_rate, train.noise_levels.mean, sample.window; or the modalities are independent",
    )


def _saturated(rows: Rows, window: Rows, late: Rows) -> Sign | None:
    """Return the sign that the discriminator is sure of everything, and its gradient has vanished."""
    accuracy, disc = (fmean(row[name] for row in window) for name in ("accuracy", "disc"))
    before = [row["grad_norm"] for row in rows if row["step"] < window[0]["step"]]
    left = fmean(row["grad_norm"] for row in window) / max(median(before), 1e-12) if before else 1.0
    if accuracy >= SURE and disc <= SATURATED and left <= VANISHED:
        return Sign(
            "discriminator collapse",
            f"accuracy {accuracy:.3f} with {left:.2g} of the former gradient: its logit is saturated",
            since_when(late, lambda row: row["accuracy"] >= SURE),
            "train.fakes, train.noise_levels.mean lower, train.lambda_denoise higher",
        )
    return None
