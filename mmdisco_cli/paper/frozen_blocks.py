"""The residual blocks of the paper's discriminators for guidance alone: frozen weights, one gradient, by the states.

The function that `blocks` computes, with a backward written by hand for speed and memory. README.md in this folder says
what is kept, what is recomputed, and which identity each line uses. `features` is what the discriminator calls.

States have their channels last here, see `frozen_layouts`; both halves of a batch under classifier-free guidance are
carried as first and residual, see `frozen_halves`.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mmdisco_cli.paper.blocks import ResidualBlock, Stem
from mmdisco_cli.paper.frozen_halves import Halves, added, halves_are_equal, joined, saved_for_backward
from mmdisco_cli.paper.frozen_layers import LinearMap, first_convolution, point_convolution, pool
from mmdisco_cli.paper.frozen_norms import Modulation, NormAffine, norm_silu, norm_silu_backward


def features(
    blocks: Iterable[Stem | ResidualBlock], modality: str, x: Tensor, embedding: Tensor, low_precision: torch.dtype
) -> Tensor:
    """Return one modality's features (B, T, C) of its state (B, C, T, ...), averaged over space or frequency.

    `embedding` (B, width) is that of time and text, and receives no gradient. Large convolutions run in
    `low_precision` where that keeps the gradient within 1 %; float32 switches it off. Only the gradient by x exists,
    once: no second derivative, none by the weights.
    """
    found: Tensor = _Branch.apply(x, tuple(blocks), modality, embedding, low_precision)  # type: ignore[no-untyped-call]
    return found


class FrozenBlock:
    """A residual block of one modality; made for one forward and its backward, between which it keeps small tensors.

    `embeddings` (B, width) are those of the halves, one where the batch is not split.
    """

    def __init__(self, block: ResidualBlock, modality: str, embeddings: Sequence[Tensor]) -> None:
        norm, _, convolution = block.get_submodule(f"{modality}_in_layers").children()
        modulation, *_, last = block.get_submodule(f"{modality}_out_layers").children()
        pooling = block.pools.get(modality)
        self.first_norm = _affine_of(norm)
        self.first = LinearMaps(first_convolution(convolution, pooling))
        self.modulations = _modulations(modulation, embeddings)
        self.last = LinearMaps([point_convolution(last)])
        self.skip = LinearMaps(_skip(block, modality, pooling))
        self.norms_before, self.norms_between = list[NormAffine](), list[NormAffine]()

    def forward(self, x: Halves, low_precision: torch.dtype) -> tuple[Halves, tuple[Halves, Halves]]:
        """Return the block's output, and the inputs of its two norms, which its backward needs."""
        y, self.norms_before = norm_silu(x, [self.first_norm] * (1 if x.residual is None else 2))
        hidden = self.first.forward(y, low_precision)
        y, self.norms_between = norm_silu(hidden, self.modulations)
        output = added(self.last.forward(y, low_precision), self.skip.forward(x, low_precision))
        return output, (saved_for_backward(x, low_precision), saved_for_backward(hidden, low_precision))

    def backward(self, g: Halves, x: Halves, hidden: Halves, low_precision: torch.dtype) -> Halves:
        """Return the gradient by the block's input from that by its output, whose memory is reused."""
        h = norm_silu_backward(self.last.backward(g, low_precision), hidden, self.norms_between)
        h = norm_silu_backward(self.first.backward(h, low_precision), x, self.norms_before)
        return added(self.skip.backward(g, low_precision), h)


class LinearMaps:
    """Linear maps one after another, over both halves; remembers the shapes of their inputs for one backward."""

    def __init__(self, maps: Sequence[LinearMap]) -> None:
        self.maps, self.input_shapes = maps, list[torch.Size]()

    def forward(self, x: Halves, low_precision: torch.dtype) -> Halves:
        """Map the first half in float32, the residual, which is small, in low precision and without biases."""
        first, residual = x
        for linear in self.maps:
            self.input_shapes.append(first.shape)
            first = linear.forward(first)
            residual = None if residual is None else linear.forward(residual, low_precision, biased=False)
        return Halves(first, residual)

    def backward(self, g: Halves, low_precision: torch.dtype) -> Halves:
        """Return the gradient by the input; that of the residual, which the guidance scale multiplies, in float32.

        Without maps this is the identity, and the result has the memory of g.
        """
        first, residual = g
        for linear, shape in zip(reversed(self.maps), reversed(self.input_shapes), strict=True):
            first = linear.backward(first, shape, low_precision)
            residual = None if residual is None else linear.backward(residual, shape)
        return Halves(first, residual)


class _Branch(torch.autograd.Function):
    """Stem, all blocks and the mean over space of one modality; what a block saved is freed once its backward ran."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        blocks: Sequence[Stem | ResidualBlock],
        modality: str,
        embedding: Tensor,
        low_precision: torch.dtype,
    ) -> Tensor:
        stem, *residual_blocks = blocks
        embeddings = embedding.chunk(2) if halves_are_equal(x) else (embedding,)
        ctx.is_waveform, ctx.low_precision = x.ndim == 3, low_precision
        ctx.stem = LinearMaps(first_convolution(stem.get_submodule(f"{modality}_conv"), None))
        ctx.blocks = [_frozen(block, modality, embeddings) for block in residual_blocks]
        state = _channels_last(x[: len(embeddings[0])].float(), ctx.is_waveform)
        h, saved = ctx.stem.forward(Halves(state, None), low_precision), list[Tensor | None]()
        for block in ctx.blocks:
            h, (before, between) = block.forward(h, low_precision)
            saved += [*before, *between]
        ctx.save_for_backward(*saved)
        ctx.output_shape = h.first.shape
        residual = None if h.residual is None else _mean_over_space(h.residual)
        return joined(Halves(_mean_over_space(h.first), residual))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        saved = list(ctx.saved_tensors)
        ctx.maybe_clear_saved_tensors()
        first, *second = (
            _mean_backward(g, ctx.output_shape) for g in gradient.chunk(len(gradient) // ctx.output_shape[0])
        )
        g = Halves(first, second[0].sub_(first) if second else None)
        for block in reversed(ctx.blocks):
            x, hidden = Halves(*saved[-4:-2]), Halves(*saved[-2:])
            del saved[-4:]
            g = block.backward(g, x, hidden, ctx.low_precision)
        g = ctx.stem.backward(g, ctx.low_precision)
        return _channels_first(joined(g), ctx.is_waveform), None, None, None, None


def _affine_of(norm: nn.Module) -> Modulation:
    """Return the learned scale and shift (1, C) of a block's first norm."""
    affine = norm.get_submodule("GroupNorm")
    assert isinstance(affine, nn.GroupNorm)
    return affine.weight.float()[None], affine.bias.float()[None]


def _modulations(module: nn.Module, embeddings: Sequence[Tensor]) -> list[Modulation]:
    """Return 1 + scale and shift (B, C) of a block's second norm under each half's embedding."""
    project = module.get_submodule("projection")
    return [(1 + p[0], p[1]) for p in (project(e).float().chunk(2, 1) for e in embeddings)]


def _skip(block: ResidualBlock, modality: str, pooling: tuple[int, ...] | None) -> list[LinearMap]:
    """Return the maps around a block: a convolution where channels change, or pooling, or none."""
    convolution = dict(block.named_children()).get(f"{modality}_skip_connection")
    if convolution is not None:
        return [point_convolution(convolution)]
    return [pool(pooling)] if pooling is not None else []


def _frozen(block: nn.Module, modality: str, embeddings: Sequence[Tensor]) -> FrozenBlock:
    assert isinstance(block, ResidualBlock)
    return FrozenBlock(block, modality, embeddings)


def _channels_last(x: Tensor, is_waveform: bool) -> Tensor:
    """Return (B, C, T, ...) as (B, T, ..., C), a waveform as (B, T, 1, C)."""
    state = x.movedim(1, -1)
    return state[:, :, None] if is_waveform else state


def _channels_first(state: Tensor, is_waveform: bool) -> Tensor:
    """Undo `_channels_last`."""
    return (state[:, :, 0] if is_waveform else state).movedim(-1, 1)


def _mean_over_space(state: Tensor) -> Tensor:
    """Return (B, T, C) of (B, T, ..., C)."""
    return state.flatten(2, -2).mean(2)


def _mean_backward(g: Tensor, shape: torch.Size) -> Tensor:
    """Return the gradient (B, T, ..., C) by the input of `_mean_over_space`: g / n at each of n positions."""
    between = [1] * (len(shape) - 3)
    share = g.float() / math.prod(shape[2:-1])
    return share.reshape(*shape[:2], *between, shape[-1]).expand(shape).contiguous()
