"""What guidance cost in quality: guided beside independent samples, by how far each is from real ones.

Kernel distances to real clips decide, and coverage: each has the difference of guided less independent samples, with
its interval. A cost is one that is certain and more than negligible; nothing is said to be lost only where the whole
interval is negligible; and everything between is not certain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmdisco_cli.evaluation.tables import cell
from mmdisco_cli.page.naming import spelt

KERNELS = ("kd", "kvd", "kad")
"""What the names of kernel distances begin with."""
SHARE, LEAST_SHIFT, COVERED = 0.1, 0.03, 0.05
"""What is negligible: a tenth of the independent samples' distance, or what all features shifted by a tenth of their
deviation would make of it (3 * 0.1^2, of standardised features), whichever is more; and a twentieth of coverage."""

FEW = 2
"""Measures that are named in a sentence, and not only counted."""
HEAD = (
    "Quality, independent to guided, the difference with its 95 % interval (distances to real clips: lower is better; "
    "coverage: higher is better)"
)


@dataclass(frozen=True)
class Change:
    """One measure, from independent to guided samples, and what it says: worse, better, same or unclear."""

    name: str
    verdict: str
    shown: str
    grown: str = ""


@dataclass(frozen=True)
class Quality:
    """What all measures together say: those that are certainly worse, those that are not certain, and all of them."""

    worse: Sequence[Change]
    unclear: Sequence[Change]
    better: Sequence[Change]
    because: str
    total: int

    def after(self, *, helped: bool) -> str:
        """Return it as the end of a sentence about alignment."""
        if self.worse:
            return f"{'at a cost' if helped else 'and cost something'} in quality: {_listed(self.worse)}"
        if self.unclear:
            return f"and what it cost in quality is not certain ({self._doubtful})"
        won = f"; nearer to real by {_listed(self.better)}" if self.better else ""
        return f"{'and' if helped else 'but'} cost nothing in quality{won}"

    @property
    def alone(self) -> str:
        """Return it as a sentence."""
        if self.worse:
            return f"It cost quality: {_listed(self.worse)}."
        if self.unclear:
            return f"What it cost in quality is not certain either ({self._doubtful})."
        return "It cost nothing in quality."

    @property
    def _doubtful(self) -> str:
        """Return the measures that are not certain, by name where they are few."""
        if len(self.unclear) <= FEW:
            return ", ".join(one.name for one in self.unclear)
        return f"{len(self.unclear)} of {self.total} measures"


def judge_quality(metrics: Mapping[str, Any]) -> Quality | None:
    """Return what a report says of quality, None where it compares no quality of guided and independent samples."""
    changes = [
        change for name, rows in metrics.items() if isinstance(rows, Mapping) and (change := _change(name, rows))
    ]
    if not changes:
        return None
    by = {verdict: [one for one in changes if one.verdict == verdict] for verdict in ("worse", "unclear", "better")}
    because = f"{HEAD}: " + "; ".join(f"{one.name} {one.shown}" for one in changes) + "."
    return Quality(by["worse"], by["unclear"], by["better"], because, len(changes))


def _change(name: str, rows: Mapping[str, Any]) -> Change | None:
    kind = name.split("_")[0]
    found = rows.get("difference")
    if kind not in (*KERNELS, "coverage") or not found or rows["independent"].get("value") is None:
        return None
    first, second = (float(rows[row]["value"] or 0.0) for row in ("independent", "guided"))
    before, after = (cell({"value": value}) for value in (first, second))
    shown = f"{before} to {after}, difference {cell(found)}"
    if kind == "coverage":
        lost = {"value": found["value"], "low": _negative(found["high"]), "high": _negative(found["low"])}
        return Change(f"{spelt(name)}", _verdict(lost, COVERED), shown, f"{first:.2f} to {second:.2f}")
    least = LEAST_SHIFT if _is_standardised(rows) else 0.0
    grown = f"{first:.3g} to {second:.3g}"
    return Change(f"{spelt(name)}", _verdict(found, max(SHARE * abs(first), least)), shown, grown)


def _verdict(found: Mapping[str, Any], negligible: float) -> str:
    """Return what the interval of a loss says."""
    low, high = found["low"], found["high"]
    if low is None:
        return "unclear"
    if high <= negligible:
        return "better" if high < -negligible else "same"
    return "worse" if low > 0 else "unclear"


def _is_standardised(rows: Mapping[str, Any]) -> bool:
    """Return whether features are scaled by the deviation of real ones: a network says what it divides by."""
    return "protocol" not in rows


def _negative(value: float | None) -> float | None:
    return None if value is None else -value


def _listed(changes: Sequence[Change]) -> str:
    return ", ".join(f"{one.name} {one.grown}" for one in changes)
