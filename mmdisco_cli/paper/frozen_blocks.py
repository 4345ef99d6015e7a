"""The residual blocks of the paper's discriminators for guidance alone: frozen weights, one gradient, by the states.

The same sums as `blocks`, arranged for speed and memory. Channels lie last, and every convolution sees its states
as the planes in which it runs fastest (`frozen_layers`). A block keeps what its two norms are of and nothing else, and
its gradient is written out by hand, most of it in memory that was there already.

Classifier-free guidance asks for one state twice, with and without its text. Then the second half of a batch is carried
as what it has beyond the first: nothing, up to the first text, and little after it. So the guidance scale multiplies no
rounding of what both halves share.

In half precision, 3x3 convolutions alone are rough, two thirds of all operations: there only of what is beyond, which
is small, and back only of what is first, which no scale multiplies. That keeps the gradient within 1 % at the released
sizes; all convolutions rough both ways would be 3 to 6 % off, and all but the first half's way there 1 to 2 %.

States are (B, T, H, W, C), (B, T, F, C) or (B, T, 1, C) here.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdisco_cli.paper.blocks import GROUPS, ResidualBlock, Stem
from mmdisco_cli.paper.frozen_layers import Step, convolutions, point, pool

PIECE = 1 << 18
"""Elements that the CPU takes at a time: 1 MiB of float32."""
EPS = 1e-5


def features(
    blocks: Iterable[Stem | ResidualBlock], modality: str, x: Tensor, level: Tensor, rough: torch.dtype
) -> Tensor:
    """Return one modality's features (B, T, C) of its state (B, C, T, ...), averaged over space or frequency.

    Frozen weights only: nothing here has a second derivative or one by the weights. `rough` is the dtype of what does
    not need to be exact.
    """
    found: Tensor = _Branch.apply(x, tuple(blocks), modality, level, rough)  # type: ignore[no-untyped-call]
    return found


class Both(NamedTuple):
    """A state of the first half of a batch, or of all of it, and what the second half has beyond the first, if any."""

    first: Tensor
    beyond: Tensor | None


Parts = tuple[Tensor] | Both
"""A state as the sum of one or two."""


class _Branch(torch.autograd.Function):
    """All blocks of one modality; what is kept of each is let go on the way back."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, blocks: Sequence[Stem | ResidualBlock], modality: str, level: Tensor, rough: torch.dtype
    ) -> Tensor:
        stem, *rest = blocks
        levels = level.chunk(2) if _asked_twice(x) else (level,)
        state = x[: len(levels[0])].float().movedim(1, -1)
        ctx.waveform, ctx.rough, ctx.blocks = x.ndim == 3, rough, []
        ctx.opening = _Chain(convolutions(stem.get_submodule(f"{modality}_conv"), None))
        h, kept = ctx.opening(Both(state[:, :, None] if ctx.waveform else state, None), rough), list[Tensor | None]()
        for block in rest:
            assert isinstance(block, ResidualBlock)
            own = _Residual(block, modality, levels)
            h, (before, between) = own(h, rough)
            ctx.blocks.append(own)
            kept += [*before, *between]
        ctx.save_for_backward(*kept)
        ctx.last = h.first.shape
        first: Tensor = h.first.flatten(2, -2).mean(2)
        if len(levels) == 1:
            return first
        return torch.cat([first, first if h.beyond is None else first + h.beyond.flatten(2, -2).mean(2)])

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        kept = list(ctx.saved_tensors)
        ctx.maybe_clear_saved_tensors()
        first, *second = (_spread(g, ctx.last) for g in gradient.chunk(len(gradient) // ctx.last[0]))
        g = Both(first, second[0].sub_(first) if second else None)
        for block in reversed(ctx.blocks):
            between, before = Both(*kept[-2:]), Both(*kept[-4:-2])
            del kept[-4:]
            g = block.back(g, before, between, ctx.rough)
        g = ctx.opening.back(g, ctx.rough)
        whole = g.first if g.beyond is None else torch.cat([g.first, g.first + g.beyond])
        return (whole[:, :, 0] if ctx.waveform else whole).movedim(-1, 1), None, None, None, None


def _asked_twice(x: Tensor) -> bool:
    """Return whether the halves of a batch are the same, as classifier-free guidance makes them."""
    half = len(x) // 2
    return not x.is_meta and half > 0 and len(x) == 2 * half and torch.equal(x[:half], x[half:])


def _spread(gradient: Tensor, shape: torch.Size) -> Tensor:
    """Return the gradient (B, T, C) of a mean over all axes in between as that of each of its terms."""
    ones = [1] * (len(shape) - 3)
    each = gradient.float() / math.prod(shape[2:-1])
    return each.reshape(*shape[:2], *ones, shape[-1]).expand(shape).contiguous()


class _Residual:
    """A residual block of one modality under embeddings (B, width), one of each half, there and back."""

    def __init__(self, block: ResidualBlock, modality: str, levels: Sequence[Tensor]) -> None:
        norm, _, convolution = block.get_submodule(f"{modality}_in_layers").children()
        modulation, *_, final = block.get_submodule(f"{modality}_out_layers").children()
        affine, project = norm.get_submodule("GroupNorm"), modulation.get_submodule("projection")
        assert isinstance(affine, nn.GroupNorm)
        pooled = block.pools.get(modality)
        skip = dict(block.named_children()).get(f"{modality}_skip_connection")
        self.inner, self.last = _Chain(convolutions(convolution, pooled)), _Chain([point(final)])
        self.around = _Chain([point(skip)] if skip is not None else [pool(pooled)] if pooled is not None else [])
        self.affine = (affine.weight.float()[None], affine.bias.float()[None])
        self.modulations = [(1 + p[0], p[1]) for p in (project(level).float().chunk(2, 1) for level in levels)]
        self.before, self.between = list[_Line](), list[_Line]()

    def __call__(self, x: Both, rough: torch.dtype) -> tuple[Both, tuple[Both, Both]]:
        """Return the next state, and the two that the way back needs."""
        y, self.before = _norm_silu(x, [self.affine] * (1 if x.beyond is None else 2))
        h = self.inner(y, rough)
        y, self.between = _norm_silu(h, self.modulations)
        return _added(self.last(y, rough), self.around(x, rough)), (_kept(x, rough), _kept(h, rough))

    def back(self, g: Both, before: Both, between: Both, rough: torch.dtype) -> Both:
        """Return the gradient by the block's input, of that by its output, which is used up."""
        h = _norm_silu_back(self.last.back(g, rough), between, self.between)
        h = _norm_silu_back(self.inner.back(h, rough), before, self.before)
        return _added(self.around.back(g, rough), h)


def _kept(x: Both, rough: torch.dtype) -> Both:
    return Both(x.first, None if x.beyond is None else x.beyond.to(rough))


def _added(onto: Both, x: Both) -> Both:
    """Return a sum in float32, where it can be in the memory of `onto`."""
    first = onto.first.add_(x.first) if onto.first.dtype == torch.float32 else onto.first + x.first.float()
    if onto.beyond is None or x.beyond is None:
        return Both(first, x.beyond if onto.beyond is None else onto.beyond)
    return Both(first, onto.beyond.float().add_(x.beyond))


class _Chain:
    """Linear maps one after another, and the shapes of what each was given."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps, self.shapes = steps, list[torch.Size]()

    def __call__(self, x: Both, rough: torch.dtype) -> Both:
        """Return the image of a state: exactly of what is first, roughly and without biases of what is beyond it."""
        first, beyond = x
        for step in self.steps:
            self.shapes.append(first.shape)
            first = step.image(first)
            beyond = None if beyond is None else step.image(beyond, rough, biased=False)
        return Both(first, beyond)

    def back(self, g: Both, rough: torch.dtype) -> Both:
        """Return the gradient by the state of that by its image, now rough of what is first; without maps, the same."""
        first, beyond = g
        for step, shape in zip(reversed(self.steps), reversed(self.shapes), strict=True):
            first = step.back(first, shape, rough)
            beyond = None if beyond is None else step.back(beyond, shape)
        return Both(first, beyond)


@dataclass(frozen=True)
class _Line:
    """Norm, scale and shift together, of one half: z = slope * x + offset by sample and channel (B, C)."""

    slope: Tensor
    offset: Tensor
    scale: Tensor
    mean: Tensor  # (B, groups)
    rstd: Tensor


def _norm_silu(x: Both, modulations: Sequence[tuple[Tensor, Tensor]]) -> tuple[Both, list[_Line]]:
    """Return SiLU of a state normalised by groups, times scale plus shift (B or 1, C), of one or of each half."""
    halves = (x[:1], x)[: len(modulations)]
    lines = [_line(half, *scaled) for half, scaled in zip(halves, modulations, strict=True)]
    first, *second = (_silu(half, line) for half, line in zip(halves, lines, strict=True))
    return Both(first, second[0].sub_(first) if second else None), lines


def _norm_silu_back(g: Both, x: Both, lines: Sequence[_Line]) -> Both:
    """Return the gradient by a state of that by SiLU of its lines, in its memory where that is float32."""
    first, beyond = g.first.float(), None if g.beyond is None else g.beyond.float()
    apart = len(lines) == 2  # otherwise both halves are at the same state, and their difference goes as each does
    if beyond is not None:
        _through(beyond.add_(first) if apart else beyond, x if apart else x[:1], lines[-1])
    _through(first, x[:1], lines[0])
    return Both(first, beyond.sub_(first) if beyond is not None and apart else beyond)


def _silu(parts: Parts, line: _Line) -> Tensor:
    """Return SiLU of a line of the sum of a state's parts."""
    y = torch.empty(parts[0].shape, device=parts[0].device)
    for b, out, state in _pieces(y, parts):
        F.silu(torch.addcmul(line.offset[b], state, line.slope[b], out=out), inplace=True)
    return y


def _line(parts: Parts, scale: Tensor, shift: Tensor) -> _Line:
    """Return the line that normalises, scales and shifts the sum of a state's parts."""
    x = parts[0]
    sums, count = _no_sums(x), x[0].numel() // GROUPS
    for b, _, state in _pieces(x, parts):
        sums[0, b] += state.sum(0)
        sums[1, b] += state.square().sum(0)
    mean, square = sums.unflatten(2, (GROUPS, -1)).sum(3) / count
    rstd = (square - mean.square() + EPS).rsqrt()
    each, rate = (s.float().repeat_interleave(x.shape[-1] // GROUPS, 1) for s in (mean, rstd))
    return _Line(rate * scale, shift - each * rate * scale, scale, mean, rstd)


def _through(g: Tensor, parts: Parts, line: _Line) -> None:
    """Turn the gradient by SiLU of a line into the one by the state that is the sum of these parts."""
    sums = _no_sums(g)
    for b, own, state in _pieces(g, parts):
        z = torch.addcmul(line.offset[b], state, line.slope[b])
        torch.ops.aten.silu_backward.grad_input(own, z, grad_input=own)
        sums[0, b] += own.sum(0)
        sums[1, b] += torch.mul(own, state, out=z).sum(0)
    tilt, lift = _through_statistics(sums, line, g[0].numel() // GROUPS)
    for b, own, state in _pieces(g, parts):
        own.mul_(line.slope[b]).addcmul_(state, tilt[b]).add_(lift[b])


def _through_statistics(sums: Tensor, line: _Line, count: int) -> tuple[Tensor, Tensor]:
    """Return slope and offset (B, C), by the state, of the gradient that goes through mean and deviation.

    `sums` (2, B, C) are those over positions of the gradient at the scaled state, and of it times the state.
    """
    channels = sums.shape[-1]
    plain, weighted = (sums * line.scale).unflatten(2, (GROUPS, -1)).sum(3)
    tilt = (plain * line.mean - weighted) * line.rstd**3 / count
    lift = -tilt * line.mean - plain * line.rstd / count
    first, second = (s.float().repeat_interleave(channels // GROUPS, 1) for s in (tilt, lift))
    return first, second


def _no_sums(x: Tensor) -> Tensor:
    dtype = torch.float32 if x.device.type == "mps" else torch.float64  # which mps does not know
    return torch.zeros(2, len(x), x.shape[-1], dtype=dtype, device=x.device)


def _pieces(x: Tensor, parts: Parts) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield sample and positions of (B, ..., C) and of a sum of states, in pieces that fit a CPU's cache."""
    channels = x.shape[-1]
    step = max(PIECE // channels, 1) if x.device.type == "cpu" else x[0].numel() // channels
    first, *beyond = (part for part in parts if part is not None)
    for b in range(len(x)):
        rows = (state[b].view(-1, channels).split(step) for state in (x, first, *beyond))
        for own, state, *more in zip(*rows, strict=True):
            yield b, own, more[0].float().add(state) if more else state
