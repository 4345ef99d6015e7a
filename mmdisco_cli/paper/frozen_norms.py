"""GroupNorm, scale, shift and SiLU as one operation of the frozen blocks, which keeps its input alone.

With x (B, ..., C) and, by sample and group of channels, N elements of mean m and r = 1 / sqrt(variance + eps):

    forward    z = (x - m) r scale + shift = slope x + offset,   slope = r scale,  offset = shift - m r scale
               y = SiLU(z) = z sigmoid(z)
    backward   dz = dy sigmoid(z) (1 + z (1 - sigmoid(z)))
               dx = slope dz + a x + b                           through z, and through m and r:
               a = r^3 (m P - Q) / N,  b = -a m - r P / N,       P = sum scale dz,  Q = sum scale dz x, over the group

z is computed again in the backward from x. Sums are in float64: P and Q cancel, and so does the variance
E[x^2] - m^2. Everything runs chunk by chunk in the memory of its result, so that a chunk stays in a CPU's cache.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdisco_cli.paper.blocks import GROUPS
from mmdisco_cli.paper.frozen_halves import Halves, Terms

CHUNK = 1 << 18
"""Elements that the CPU takes at a time: 1 MiB of float32."""
EPS = 1e-5

Modulation = tuple[Tensor, Tensor]
"""Scale and shift (B or 1, C) that follow the normalisation."""


@dataclass(frozen=True)
class NormAffine:
    """The whole norm of one half as z = slope x + offset (B, C), and what its backward needs beside x."""

    slope: Tensor
    offset: Tensor
    scale: Tensor
    mean: Tensor  # (B, groups), as rstd
    rstd: Tensor


def norm_silu(x: Halves, modulations: Sequence[Modulation]) -> tuple[Halves, list[NormAffine]]:
    """Return SiLU of the normalised state and the norms of its halves, one of them a modulation.

    One modulation stands for both halves where they are the same so far (then the residual stays None).
    """
    halves = _terms_of_halves(x)[: len(modulations)]
    norms = [norm_affine(half, *modulation) for half, modulation in zip(halves, modulations, strict=True)]
    first, *second = (silu_of_affine(half, norm) for half, norm in zip(halves, norms, strict=True))
    return Halves(first, second[0].sub_(first) if second else None), norms


def norm_silu_backward(g: Halves, x: Halves, norms: Sequence[NormAffine]) -> Halves:
    """Return the gradient by x from that by `norm_silu` of it, in the memory of g where that is float32.

    With J_1, J_2 the Jacobians of the halves: the gradient of the first is J_1 g_1, of the residual
    J_2 (g_1 + r) - J_1 g_1; or J_1 r, where one norm was of both halves.
    """
    first, residual = g.first.float(), None if g.residual is None else g.residual.float()
    of_first, of_second = _terms_of_halves(x)
    halves_differ = len(norms) == 2
    if residual is not None and halves_differ:
        norm_silu_backward_(residual.add_(first), of_second, norms[1])
    elif residual is not None:
        norm_silu_backward_(residual, of_first, norms[0])
    norm_silu_backward_(first, of_first, norms[0])
    return Halves(first, residual.sub_(first) if residual is not None and halves_differ else residual)


def norm_affine(terms: Terms, scale: Tensor, shift: Tensor) -> NormAffine:
    """Return slope and offset of the norm of a state (B, ..., C), the sum of `terms`."""
    x = terms[0]
    sums, count = _zero_sums(x), x[0].numel() // GROUPS
    for b, _, state in _chunks(x, terms):
        sums[0, b] += state.sum(0)
        sums[1, b] += state.square().sum(0)
    mean, square = _group_sums(sums) / count
    rstd = (square - mean.square() + EPS).rsqrt()
    m, r = _by_channel(mean, x.shape[-1]), _by_channel(rstd, x.shape[-1])
    return NormAffine(r * scale, shift - m * r * scale, scale, mean, rstd)


def silu_of_affine(terms: Terms, norm: NormAffine) -> Tensor:
    """Return SiLU(slope x + offset) of a state (B, ..., C), the sum of `terms`."""
    y = torch.empty(terms[0].shape, device=terms[0].device)
    for b, out, state in _chunks(y, terms):
        F.silu(torch.addcmul(norm.offset[b], state, norm.slope[b], out=out), inplace=True)
    return y


def norm_silu_backward_(g: Tensor, terms: Terms, norm: NormAffine) -> None:
    """Turn dy (B, ..., C) into dx in place: first into dz with the sums P and Q, then into slope dz + a x + b."""
    sums = _zero_sums(g)
    for b, dz, state in _chunks(g, terms):
        z = torch.addcmul(norm.offset[b], state, norm.slope[b])
        torch.ops.aten.silu_backward.grad_input(dz, z, grad_input=dz)
        sums[0, b] += dz.sum(0)
        sums[1, b] += torch.mul(dz, state, out=z).sum(0)
    a, offset = _statistics_backward(sums, norm, g[0].numel() // GROUPS)
    for b, dz, state in _chunks(g, terms):
        dz.mul_(norm.slope[b]).addcmul_(state, a[b]).add_(offset[b])


def _statistics_backward(sums: Tensor, norm: NormAffine, count: int) -> tuple[Tensor, Tensor]:
    """Return a and b (B, C) of the gradient that goes through mean and deviation.

    `sums` (2, B, C) are those of dz and of dz x over positions, `count` the elements of a group.
    """
    channels = sums.shape[-1]
    p, q = _group_sums(sums * norm.scale)
    a = (p * norm.mean - q) * norm.rstd**3 / count
    b = -a * norm.mean - p * norm.rstd / count
    return _by_channel(a, channels), _by_channel(b, channels)


def _terms_of_halves(x: Halves) -> tuple[Terms, Terms]:
    """Return the first and the second half, each as the tensors it is the sum of."""
    return (x.first,), x


def _group_sums(sums: Tensor) -> Tensor:
    """Sum (2, B, C) over the channels of each group: (2, B, groups)."""
    grouped: Tensor = sums.unflatten(2, (GROUPS, -1)).sum(3)
    return grouped


def _by_channel(values: Tensor, channels: int) -> Tensor:
    """Repeat (B, groups) for the channels of each group: (B, C) in float32."""
    return values.float().repeat_interleave(channels // GROUPS, 1)


def _zero_sums(x: Tensor) -> Tensor:
    dtype = torch.float32 if x.device.type == "mps" else torch.float64  # mps has no float64
    return torch.zeros(2, len(x), x.shape[-1], dtype=dtype, device=x.device)


def _chunks(x: Tensor, terms: Terms) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield the index of a sample, a chunk (positions, C) of x (B, ..., C), and the same chunk of the terms' sum."""
    channels = x.shape[-1]
    step = max(CHUNK // channels, 1) if x.device.type == "cpu" else x[0].numel() // channels
    first, *residual = (term for term in terms if term is not None)
    for b in range(len(x)):
        rows = (tensor[b].view(-1, channels).split(step) for tensor in (x, first, *residual))
        for own, state, *more in zip(*rows, strict=True):
            yield b, own, more[0].float().add(state) if more else state
