"""Signs that a training fails, found in its curves: pure functions of rows of metrics.jsonl.

A row of training is a mean over `train.log_every` steps, a row of held-out clips one measurement.
"""

from dataclasses import dataclass
from statistics import fmean, median

from mmdisco_cli.training.loop import STEADIER
from mmdisco_cli.training.monitoring.collapse import collapse
from mmdisco_cli.training.monitoring.lasting import CHANCE, Row, Rows, Sign, last_of, since_when

RUNNING = 20
"""Rows before one, of which the running median is taken."""
JUMPS = {"loss": 10.0, "grad_norm": 30.0}
"""How many times the running median a row must be to be a jump; healthy ones stay below 3."""
FLOOR = 0.05
"""The smallest running median that jumps are measured by: below it, orders of magnitude mean nothing."""
HARM, LASTING_HARM = -1.0, -0.01
"""The gain at which guidance doubles the error of the base models, and one that is too low where it lasts."""
BY_LEVEL = "gain_by_log_snr"
"""The gain of held-out clips at each log-SNR of the first modality, in a row of theirs."""
LATER = 2
"""Measurements, the last ones, that must all be worse than the best one."""
KEPT = 0.5
"""The share of what is learnt of the clips trained on that must hold for held-out ones."""


@dataclass(frozen=True)
class Measure:
    """The figure of held-out clips that the best weights are chosen by, and by how much it must worsen to count.

    `nothing` is its value where nothing is learnt, if known, and `least` the difference from it that exceeds noise.
    """

    name: str
    rising: bool
    relative: float
    absolute: float = 0.0
    nothing: float | None = None
    least: float = 0.0

    def learnt(self, value: float) -> float:
        """Return how much better a value is than where nothing is learnt; 0 where that is not known."""
        return 0.0 if self.nothing is None else (value - self.nothing) * (1 if self.rising else -1)

    def better(self, value: float, than: float) -> bool:
        """Return whether a value is better than another one."""
        return value > than if self.rising else value < than

    def best_of(self, rows: Rows) -> Row | None:
        """Return the row of the best value, the first of equal ones; None where no row has any."""
        best: Row | None = None
        for row in rows:
            if isinstance(row.get(self.name), float) and (best is None or self.better(row[self.name], best[self.name])):
                best = row
        return best

    def worse(self, value: float, best: float) -> bool:
        """Return whether a value is clearly worse than the best one."""
        margin = max(self.relative * abs(best), self.absolute)
        return (best - value if self.rising else value - best) > margin


GAIN = Measure("gain", True, 0.1, 0.005, nothing=0.0, least=0.03)
DISC = Measure("disc", False, 0.03, nothing=CHANCE, least=0.1)
X0_ERROR = Measure("x0_error", False, 0.03)
LOSS = Measure("loss", False, 0.03)
NOTHING = Measure("", False, 0.0)


def signs(rows: Rows, heldout: Rows, measure: Measure, steps: int, warmup: int) -> list[Sign]:
    """Return every sign in the curves of a stage of `steps` steps."""
    found = [collapse(rows, steps, warmup), instability(rows, steps, warmup), overfitting(rows, heldout, measure)]
    return [sign for sign in found if sign is not None]


def instability(rows: Rows, steps: int, warmup: int) -> Sign | None:
    """Return the sign that loss or gradient jumped by orders of magnitude, or guidance increased the error for long."""
    for number, row in enumerate(rows):
        if seen := _jump(row, rows[max(0, number - RUNNING) : number]) or _harm(row):
            return Sign("unstable gradient", seen, row["step"], STEADIER)
    late = [row for row in rows if row["step"] > warmup and "gain" in row]
    window = last_of(late, steps)
    if window and max(fmean(row["gain"] for row in window), window[-1]["gain"]) < LASTING_HARM:
        since = since_when(late, lambda row: row["gain"] < 0)
        seen = f"guidance raises the base models' error, gain {window[-1]['gain']:.3g}"
        return Sign("unstable gradient", seen, since, STEADIER)
    return None


def overfitting(rows: Rows, heldout: Rows, measure: Measure) -> Sign | None:
    """Return the sign of overfitting: held-out figures worsen, or stay below half of what is learnt in training."""
    return _worsening(rows, heldout, measure) or _left_behind(rows, heldout, measure)


def _worsening(rows: Rows, heldout: Rows, measure: Measure) -> Sign | None:
    """Return the sign that a figure of held-out clips worsens while that of training gets better."""
    name = measure.name
    best = measure.best_of(heldout)
    if best is None:
        return None
    later = [row for row in heldout if row["step"] > best["step"] and name in row]
    if len(later) < LATER or not all(measure.worse(row[name], best[name]) for row in later[-LATER:]):
        return None
    then, now = (_trained(rows, name, row["step"]) for row in (best, later[-1]))
    if then is None or now is None or not measure.better(now, then):
        return None
    return Sign(
        "overfitting",
        f"held-out {name} went from {best[name]:.4g} to {later[-1][name]:.4g}, in training from {then:.4g} to "
        f"{now:.4g}",
        best["step"],
        f"more clips (train.bank), train.weight_decay, fewer train.steps; best.safetensors holds step {best['step']}",
    )


def _left_behind(rows: Rows, heldout: Rows, measure: Measure) -> Sign | None:
    """Return the sign that held-out clips show less than half of what is learnt, and do not improve.

    Early in a training averaged weights are behind those that are trained, but then each measurement is better.
    """
    name = measure.name
    window = [row for row in heldout if name in row][-LATER - 1 :]
    if len(window) <= LATER or measure.worse(window[0][name], window[-1][name]):
        return None
    trained = [_trained(rows, name, row["step"]) for row in window]
    for row, value in zip(window, trained, strict=True):
        if value is None or measure.learnt(value) < measure.least:
            return None
        if measure.learnt(row[name]) >= KEPT * measure.learnt(value):
            return None
    return Sign(
        "overfitting",
        f"held-out {name} stays at {window[-1][name]:.4g} while that of training is {trained[-1]:.4g}; it is "
        f"{measure.nothing:.4g} where nothing is learnt",
        window[0]["step"],
        "more clips (train.bank), train.weight_decay, a smaller discriminator",
    )


def _jump(row: Row, before: Rows) -> str:
    """Say what has jumped over its running median, if anything has."""
    if len(before) < 3:
        return ""
    for name, times in JUMPS.items():
        usual = max(median(abs(other[name]) for other in before), FLOOR)
        if abs(row[name]) > times * usual:
            return f"{name} {row[name]:.3g} is {abs(row[name]) / usual:.2g} times its running median"
    return ""


def _harm(row: Row) -> str:
    """Return what is a failure by itself: a run that was never stable has no median to compare with."""
    if row.get("disc", 0.0) > 10 * CHANCE:
        return f"disc {row['disc']:.3g} is {row['disc'] / CHANCE:.2g} times that of chance"
    if row.get("gain", 0.0) < HARM:
        return f"guidance multiplies the base models' error by {1 - row['gain']:.3g}"
    return ""


def _trained(rows: Rows, name: str, step: int) -> float | None:
    """Return a figure of training around a step: the mean of the three rows up to it."""
    known = [row[name] for row in rows if row["step"] <= step and name in row][-3:]
    return fmean(known) if known else None
