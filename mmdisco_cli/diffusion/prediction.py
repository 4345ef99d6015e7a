"""Turn a model's native output into x_0 and epsilon, and back.

With x = alpha * x_0 + sigma * epsilon and the native output m = a * x_0 + b * epsilon, both follow from

    x_0 = (b * x - sigma * m) / (alpha * b - sigma * a),  epsilon = (alpha * m - a * x) / (alpha * b - sigma * a)    (6)
"""

from typing import Literal

import torch
from torch import Tensor

PredictionType = Literal["epsilon", "sample", "v", "flow", "flow_reversed"]
# Below this a denominator of eq. (6) is rounding error.
_SMALLEST = 1e-6


def at_least_float32(x: Tensor) -> Tensor:
    """Return x in float32, or as it is when it is already wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def per_sample(value: Tensor, like: Tensor) -> Tensor:
    """Return a scalar or (B,) value shaped to broadcast over `like` (B, ...), on its device, at least float32."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    return value.to(like.device, dtype).reshape(-1, *(1,) * (like.ndim - 1))


def coefficients(alpha: Tensor, sigma: Tensor, prediction: PredictionType) -> tuple[Tensor, Tensor]:
    """Return (a, b) such that the native output is a * x_0 + b * epsilon."""
    one, zero = torch.ones_like(alpha), torch.zeros_like(alpha)
    table = {
        "epsilon": (zero, one),
        "sample": (one, zero),
        "v": (-sigma, alpha),
        "flow": (-one, one),
        "flow_reversed": (one, -one),
    }
    if prediction not in table:
        raise ValueError(f"unknown prediction {prediction!r} (one of {', '.join(table)})")
    return table[prediction]


def to_x0_eps(
    native: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor, prediction: PredictionType
) -> tuple[Tensor, Tensor]:
    """Return (x_0, epsilon), in at least float32, from the native output for x (B, ...) at alpha and sigma, () or (B,).

    What the model was trained to predict is returned unchanged; what is undefined (x_0 from epsilon at alpha = 0,
    epsilon from x_0 at sigma = 0) is 0.
    """
    m, x = at_least_float32(native), at_least_float32(x)
    alpha, sigma = per_sample(alpha, x), per_sample(sigma, x)
    a, b = coefficients(alpha, sigma, prediction)
    if prediction == "epsilon":
        return _ratio(x - sigma * m, alpha), m
    if prediction == "sample":
        return m, _ratio(x - alpha * m, sigma)
    det = alpha * b - sigma * a  # Eq. (6)
    return (b * x - sigma * m) / det, (alpha * m - a * x) / det


def from_x0_eps(x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor, prediction: PredictionType) -> Tensor:
    """Return the native output for (x_0, epsilon) at alpha and sigma, () or (B,): the inverse of `to_x0_eps`."""
    a, b = coefficients(per_sample(alpha, x0), per_sample(sigma, x0), prediction)
    return a * at_least_float32(x0) + b * at_least_float32(eps)


def add_noise(x0: Tensor, eps: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """Return x_u = alpha * x_0 + sigma * epsilon, eq. (1), for alpha and sigma of shape () or (B,)."""
    return per_sample(alpha, x0) * at_least_float32(x0) + per_sample(sigma, x0) * at_least_float32(eps)


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    known = denominator.abs() > _SMALLEST
    return torch.where(known, numerator / denominator.where(known, torch.ones_like(denominator)), 0.0)
