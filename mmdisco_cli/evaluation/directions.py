"""Which way of each figure is good."""

NEARER_ZERO = ("av_lag", "desync")
HIGHER = (
    *("av_align", "av_align_gain", "imagebind", "event_iou", "kind_correlation", "material_agreement"),
    *("interaction", "accuracy"),
)
LOWER = ("calibration", "residual_error", "joint_error", "sliced_wasserstein")
DISTANCES = ("fd", "kd", "fvd", "kvd", "fad", "kad")
"""What names of distances begin with."""


def better(name: str) -> str:
    """Return higher, lower or nearer 0, empty for a figure of which neither is good."""
    if name in HIGHER:
        return "higher"
    if name in LOWER or name.split("_")[0] in DISTANCES:
        return "lower"
    return "nearer 0" if name in NEARER_ZERO else ""
