"""How much a video moves from frame to frame: mean length of dense optical flow (Farneback, 2003)."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[np.uint8]
LEAST_MOTION = 0.1
"""Pixels a frame below which AV-Align, since 2025, calls nothing a peak."""


def flow_length(before: Grey, after: Grey) -> float:
    """Return the mean length in pixels of the flow between two grey frames (H, W), as AV-Align takes it."""
    flow = cv2.calcOpticalFlowFarneback(before, after, None, 0.5, 3, 15, 3, 5, 1.2, 0)  # type: ignore[call-overload]
    length, _ = cv2.cartToPolar(flow[..., 0], flow[..., 1])
    return float(np.mean(length))


def motion_peaks(motion: Sequence[float], least: float) -> list[int]:
    """Return the frames whose motion exceeds that of both neighbours and is at least `least` pixels.

    `motion[i]` is that from frame i - 1 to frame i, `motion[0]` repeats `motion[1]`.
    """
    return [i for i in range(1, len(motion) - 1) if motion[i - 1] < motion[i] > motion[i + 1] and motion[i] >= least]
