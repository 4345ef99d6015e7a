"""Network blocks that base models and discriminators share: patches, noise-level embedding, transformer block."""

import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def map_rows(layers: Iterable[nn.Module], x: Tensor) -> Tensor:
    """Map (B, in), one row a sample, through linear and pointwise layers to (B, out), rounded once at the end.

    The order of summation depends on the number of rows, and a sampler magnifies the rounding errors a hundredfold. In
    float64, where the device has it, the result rounded to float32 is almost always the same in any batch.
    """
    dtype = x.dtype if x.device.type == "mps" else torch.float64
    y = x.to(dtype)
    for layer in layers:
        y = F.linear(y, layer.weight.to(dtype), layer.bias.to(dtype)) if isinstance(layer, nn.Linear) else layer(y)
    return y.to(x.dtype)


def convolve_as_batch(convolve: nn.Module, x: Tensor) -> Tensor:
    """Convolve (B, C, T), a batch of one in the same order of summation as larger ones.

    On the CPU torch sums a small batch of one in another order than oneDNN sums larger ones. oneDNN's order depends on
    the processor, and with several threads on B, so equal bits are not guaranteed.
    """
    alone = len(x) == 1 and x.device.type == "cpu"
    mapped: Tensor = convolve(x.repeat(2, 1, 1))[:1] if alone else convolve(x)
    return mapped


def convolve_tokens(convolve: nn.Module, tokens: Tensor) -> Tensor:
    """Convolve tokens (B, N, C) along N by a depthwise layer of odd width, which keeps N; in the tokens' own dtype.

    oneDNN's depthwise kernels are several times faster, backward most of all, on channels that lie side by side, as
    tokens' do; it finds them only in two dimensions, and not in bfloat16.
    """
    weight, bias = (p.to(tokens.dtype) for p in convolve.parameters())
    padding = (0, weight.shape[-1] // 2)
    device = tokens.device.type
    with torch.autocast("cpu" if device == "meta" else device, enabled=False):  # plans have no autocast of their own
        rows = tokens.transpose(1, 2).unsqueeze(2)
        mapped: Tensor = F.conv2d(rows, weight.unsqueeze(2), bias, padding=padding, groups=len(weight))
    return mapped.squeeze(2).transpose(1, 2)


class LevelEmbedding(nn.Module):
    """Embed log-SNR (B,) as (B, width): Fourier features, then a two-layer network."""

    frequencies: Tensor

    def __init__(self, width: int, features: int = 32) -> None:
        super().__init__()
        # Log-SNR spans about [-10, 10]: wavelengths from 40 down to 1 resolve it without aliasing.
        self.register_buffer("frequencies", 2 * math.pi / torch.logspace(math.log10(40), 0, features), persistent=False)
        self.net = nn.Sequential(nn.Linear(2 * features, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, log_snr: Tensor) -> Tensor:
        """Return the embedding (B, width) of log-SNR (B,)."""
        angles = log_snr[:, None] * self.frequencies
        return map_rows(self.net, torch.cat([angles.sin(), angles.cos()], dim=1))


class TransformerBlock(nn.Module):
    """Pre-norm transformer block, modulated by the noise level (adaLN-single: PixArt-alpha, arXiv 2310.00426).

    Attention is written out, because the fused kernels have no second derivative on the CPU, which the denoising loss
    needs. Raise ValueError where the heads do not divide the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} attention heads do not divide a width of {width}")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.table = nn.Parameter(torch.zeros(6, width))
        nn.init.zeros_(self.merge.weight)
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """Map tokens (B, N, width) under modulation (B, 6, width) to tokens of the same shape."""
        shift_a, scale_a, gate_a, shift_b, scale_b, gate_b = (modulation + self.table)[:, :, None].unbind(1)
        x = x + (1 + gate_a) * self._attend(modulated_norm(x, shift_a, scale_a))
        hidden = F.gelu(self.up(modulated_norm(x, shift_b, scale_b)), approximate="tanh")
        mapped: Tensor = x + (1 + gate_b) * self.down(hidden)
        return mapped

    def _attend(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).softmax(-1)
        merged: Tensor = self.merge((weights @ v).transpose(1, 2).flatten(2))
        return merged


def zero(*layers: nn.Module) -> None:
    """Set every parameter of the layers to zero, so that they begin by adding nothing."""
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


def modulated_norm(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Normalise tokens over their features, then scale by 1 + `scale` and add `shift`."""
    return F.layer_norm(x, x.shape[-1:]) * (1 + scale) + shift


def patchify(x: Tensor, patch: tuple[int, ...]) -> Tensor:
    """Cut (B, C, *sizes) into non-overlapping patches: tokens (B, N, C * prod(patch)), in raster order.

    Raises:
        ValueError: the patch does not divide the sizes.
    """
    sizes = x.shape[2:]
    if len(patch) != len(sizes) or any(size % p for size, p in zip(sizes, patch, strict=True)):
        raise ValueError(f"patches of {patch} do not tile a latent of {tuple(sizes)}")
    split = [n for size, p in zip(sizes, patch, strict=True) for n in (size // p, p)]
    x = x.reshape(*x.shape[:2], *split)
    outer, inner = range(2, x.ndim, 2), range(3, x.ndim, 2)
    return x.permute(0, *outer, 1, *inner).flatten(1 + len(patch)).flatten(1, len(patch))


def unpatchify(tokens: Tensor, shape: tuple[int, ...], patch: tuple[int, ...]) -> Tensor:
    """Invert `patchify` for a latent of `shape` (C, *sizes)."""
    channels, *sizes = shape
    counts = [size // p for size, p in zip(sizes, patch, strict=True)]
    x = tokens.reshape(-1, *counts, channels, *patch)
    n = len(patch)
    order = [axis for i in range(n) for axis in (1 + i, 2 + n + i)]
    return x.permute(0, 1 + n, *order).reshape(-1, channels, *sizes)
