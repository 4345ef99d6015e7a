"""Names of measures: which ones `--metrics` may choose from, and which way of each is good."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from mmdisco_cli.errors import UsageError

NEARER_ZERO = ("av_lag", "desync")
HIGHER = (
    *("av_align", "av_align_gain", "imagebind", "event_iou", "kind_correlation", "material_agreement"),
    *("interaction", "accuracy", "mass_on_modes"),
)
SHARES = ("agreement", "given", "density", "coverage", "text", "number", "sizes", "materials")
"""What names begin with of shares that are right as often as possible, and of what real clips have most of."""
LOWER = ("calibration", "residual_error", "joint_error", "sliced_wasserstein")
NEARER_ONE = ("diversity",)
"""What names begin with of what is 1 for real clips."""
ARROWS = {"higher": "\u2191", "lower": "\u2193", "nearer 0": "\u2192 0", "nearer 1": "\u2192 1"}
DISTANCES = ("fd", "kd", "fvd", "kvd", "fad", "kad")
"""What names of distances begin with."""


def better(name: str) -> str:
    """Return higher, lower, nearer 0 or nearer 1, empty for a figure of which none is good."""
    if name in HIGHER or name.split("_")[0] in SHARES:
        return "higher"
    if name in LOWER or name.split("_")[0] in DISTANCES:
        return "lower"
    if name.split("_")[0] in NEARER_ONE:
        return "nearer 1"
    return "nearer 0" if name in NEARER_ZERO else ""


def direction(name: str) -> str:
    """Return which way of a figure is good as an arrow and in words, empty where none is."""
    way = better(name)
    return f"{ARROWS[way]} {way}" if way.isalpha() else f"{ARROWS[way].split()[0]} {way}" if way else ""


def require_known(names: Iterable[str], known: Collection[str], *, of_clips: bool = False) -> None:
    """Raise UsageError for a name that is not among those known, all of which it lists.

    `of_clips` says that extractors may add some.
    """
    for name in names:
        if name in known:
            continue
        if not known:
            raise UsageError(f"--metrics {name}: there is nothing to choose from")
        close = get_close_matches(name, known)
        meant = f"did you mean {' or '.join(close)}? " if close else ""
        further = ", and what an --extractor adds" if of_clips else ""
        raise UsageError(f"--metrics {name}: unknown ({meant}known: {', '.join(known)}{further})")
