"""The residual blocks of the paper's discriminators for guidance alone: frozen weights, one gradient, by the states.

The same sums as `paper_blocks`, arranged for speed and memory. Channels lie last, so that no convolution moves a pixel;
norm, scale, shift and SiLU are one function that keeps its input and works in float32 on pieces that fit the cache; a
convolution keeps nothing, for its gradient by the input takes its weights alone; and a convolution whose result is
pooled runs with stride 2 on the picture averaged first, which is the same at a quarter of the cost. States are
(B, T, H, W, C), (B, T, F, C) or (B, T, 1, C) here.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdisco_cli.discriminators.paper_blocks import AUDIO_POOL, GROUPS, AudioConv, ResidualBlock, Stem, VideoConv

PIECE = 1 << 18
"""Elements that the CPU takes at a time: 1 MiB of float32."""
EPS = 1e-5


def features(
    blocks: Iterator[Stem | ResidualBlock], modality: str, x: Tensor, level: Tensor, dtype: torch.dtype
) -> Tensor:
    """Return one modality's features (B, T, C) of its state (B, C, T, ...), averaged over space or frequency.

    Frozen weights only: nothing here has a second derivative or one by the weights. `dtype` is that of convolutions.
    """
    x = x.to(dtype).movedim(1, -1)
    x = x[:, :, None] if x.ndim == 3 else x
    for block in blocks:
        x = _convolved(block, modality, x) if isinstance(block, Stem) else _residual(block, modality, x, level)
    return x.flatten(2, -2).float().mean(2)


def _convolved(block: Stem, modality: str, x: Tensor) -> Tensor:
    return _convolution(block.get_submodule(f"{modality}_conv"), x, False)


def _residual(block: ResidualBlock, modality: str, x: Tensor, level: Tensor) -> Tensor:
    """Map (B, ..., C) under an embedding (B, width) to (B, ..., out)."""
    norm, _, convolution = block.get_submodule(f"{modality}_in_layers").children()
    modulation, *_, last = block.get_submodule(f"{modality}_out_layers").children()
    affine = norm.get_submodule("GroupNorm")
    assert isinstance(affine, nn.GroupNorm)
    h = _norm_silu(x, affine.weight.float()[None], affine.bias.float()[None])
    h = _convolution(convolution, h, modality in block.pools)
    scale, shift = modulation.get_submodule("projection")(level).float().chunk(2, 1)
    h = _point(last, _norm_silu(h, 1 + scale, shift))
    x = _pooled(x, block.pools.get(modality))
    skip = dict(block.named_children()).get(f"{modality}_skip_connection")
    return h + (x if skip is None else _point(skip, x))


def _pooled(x: Tensor, kernel: tuple[int, ...] | None) -> Tensor:
    """Average (B, T, H, W, C) over pixels, (B, T, F, C) over frequencies, (B, T, 1, C) over time."""
    if kernel is None:
        return x
    planes = x.flatten(0, 1) if x.ndim == 5 else x
    window = (*kernel, 1) if len(kernel) == 1 else kernel
    pooled = F.avg_pool2d(planes.permute(0, 3, 1, 2), window).permute(0, 2, 3, 1)
    return pooled.unflatten(0, x.shape[:2]) if x.ndim == 5 else pooled


def _convolution(module: nn.Module, x: Tensor, pools: bool) -> Tensor:
    """Map (B, ..., C) to (B, ..., out), and pool the result if `pools`."""
    if isinstance(module, AudioConv):
        own, axes = module.audio_conv, module.audio_conv.weight.ndim - 2
        weight = own.weight if axes == 2 else own.weight[..., None]
        dilation = (own.dilation[0], 1) if axes == 1 else own.dilation
        pad = tuple(d * (k // 2) for d, k in zip(dilation, weight.shape[2:], strict=True))
        y = _planes(x, weight, own.bias, pad, dilation)
        return _pooled(y, AUDIO_POOL[axes]) if pools else y
    assert isinstance(module, VideoConv)
    frames, pixels = module.video_conv_spatial, module.video_conv_temporal
    planes = x.flatten(0, 1)
    if pools:
        planes = F.avg_pool2d(planes.permute(0, 3, 1, 2), 2, stride=1, padding=1).permute(0, 2, 3, 1)
    y = _planes(planes, frames.weight, frames.bias, (0, 0) if pools else (1, 1), stride=2 if pools else 1)
    z = _planes(y.unflatten(0, x.shape[:2]).flatten(2, 3), pixels.weight[..., None], pixels.bias, (1, 0))
    moved: Tensor = z.unflatten(2, y.shape[1:3])
    return moved


def _point(module: nn.Module, x: Tensor) -> Tensor:
    """Map (B, ..., C) to (B, ..., out) at each position by itself."""
    (own,) = module.children()
    assert isinstance(own, nn.Conv1d | nn.Conv2d | nn.Conv3d)
    y = _planes(x.flatten(1, -2)[:, :, None], own.weight.flatten(1)[..., None, None], own.bias, (0, 0))
    return y.reshape(*x.shape[:-1], -1)


def _planes(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    padding: tuple[int, ...],
    dilation: tuple[int, ...] = (1, 1),
    stride: int = 1,
) -> Tensor:
    """Map planes (B, H, W, C) to (B, H', W', out)."""
    own = weight.to(x.dtype, memory_format=torch.channels_last)
    shift = None if bias is None else bias.to(x.dtype)
    mapped: Tensor = _Convolve.apply(x.permute(0, 3, 1, 2), own, shift, list(padding), list(dilation), [stride] * 2)  # type: ignore[no-untyped-call]
    return mapped.permute(0, 2, 3, 1)


def _norm_silu(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    y: Tensor = _NormSilu.apply(x, scale, shift)  # type: ignore[no-untyped-call]
    return y


class _Convolve(torch.autograd.Function):
    """A convolution that keeps its weights alone."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        padding: list[int],
        dilation: list[int],
        stride: list[int],
    ) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.how, ctx.shape = (stride, padding, dilation, False, [0, 0], 1), x.shape
        return F.conv2d(x, weight, bias, stride, padding, dilation)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (weight,) = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        # The numbers of the input are not read: only its shape and order of axes are.
        like = torch.empty(ctx.shape, dtype=weight.dtype, device=weight.device, memory_format=torch.channels_last)
        wanted = (True, False, False)
        by_input = torch.ops.aten.convolution_backward(gradient, like, weight, None, *ctx.how, wanted)[0]
        return by_input, None, None, None, None, None


class _NormSilu(torch.autograd.Function):
    """SiLU of (B, ..., C) normalised by groups, times scale (B or 1, C), plus shift."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        x = x.contiguous()
        batch, channels = len(x), x.shape[-1]
        positions = x.numel() // (batch * channels)
        ones = torch.ones(channels, device=x.device)
        planes = x.reshape(batch, positions, 1, channels).permute(0, 3, 1, 2)
        statistics = torch.ops.aten.native_group_norm
        _, mean, rstd = statistics(planes, ones, 0 * ones, batch, channels, positions, GROUPS, EPS)
        ctx.save_for_backward(x, mean.float(), rstd.float(), scale, shift)
        slope, offset = _line(mean.float(), rstd.float(), scale, shift)
        y = torch.empty_like(x)
        for b, part in _pieces(x):
            piece = torch.addcmul(offset[b], _rows(x, b)[part].float(), slope[b])
            _rows(y, b)[part] = F.silu(piece, inplace=True)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd, scale, shift = ctx.saved_tensors
        gradient = gradient.contiguous()
        slope, offset = _line(mean, rstd, scale, shift)
        before = torch.empty(x.shape, dtype=torch.float32, device=x.device)
        sums = torch.zeros(2, len(x), x.shape[-1], device=x.device)
        for b, part in _pieces(x):
            piece, pulled = _rows(x, b)[part].float(), _rows(gradient, b)[part].float()
            own = torch.ops.aten.silu_backward(pulled, torch.addcmul(offset[b], piece, slope[b]))
            _rows(before, b)[part] = own
            sums[0, b] += own.sum(0)
            sums[1, b] += (piece * own).sum(0)
        tilt, lift = _through_statistics(sums * scale, mean, rstd, x.numel() // (len(x) * GROUPS))
        by_input = torch.empty_like(x)
        for b, part in _pieces(x):
            own = _rows(before, b)[part].mul_(slope[b])
            _rows(by_input, b)[part] = own.addcmul_(_rows(x, b)[part].float(), tilt[b]).add_(lift[b])
        return by_input, None, None


def _line(mean: Tensor, rstd: Tensor, scale: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
    """Return slope and offset (B, C) of norm, scale and shift together, from statistics (B, groups)."""
    mean, rstd = (s.repeat_interleave(scale.shape[1] // GROUPS, 1) for s in (mean, rstd))
    return rstd * scale, shift - mean * rstd * scale


def _through_statistics(sums: Tensor, mean: Tensor, rstd: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return slope and offset (B, C), by the state, of the gradient that goes through mean and deviation.

    `sums` (2, B, C) are those over positions of the gradient at the normalised state, and of it times the state.
    """
    channels = sums.shape[-1]
    plain, weighted = sums.unflatten(2, (GROUPS, -1)).sum(3)
    tilt = (plain * mean - weighted) * rstd**3 / count
    lift = -tilt * mean - plain * rstd / count
    each = (s.repeat_interleave(channels // GROUPS, 1) for s in (tilt, lift))
    return next(each), next(each)


def _pieces(x: Tensor) -> Iterator[tuple[int, slice]]:
    """Yield sample and positions of pieces of (B, ..., C) that fit a CPU's cache; a GPU takes a sample at a time."""
    positions = x.numel() // (len(x) * x.shape[-1])
    step = max(PIECE // x.shape[-1], 1) if x.device.type == "cpu" else positions
    for b in range(len(x)):
        for start in range(0, positions, step):
            yield b, slice(start, start + step)


def _rows(x: Tensor, b: int) -> Tensor:
    return x[b].view(-1, x.shape[-1])
