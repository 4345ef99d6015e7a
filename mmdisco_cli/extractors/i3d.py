"""I3D, the RGB network of rgb_scratch on Kinetics-400 (Carreira and Zisserman, 2017).

Its tensors have the names of i3d_pretrained_400.pt.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CLASSES = 400
# Of each mixed block: 1x1; 1x1 and 3x3; 1x1 and 3x3; 1x1 after pooling.
BLOCKS = {
    "Mixed_3b": (192, (64, 96, 128, 16, 32, 32)),
    "Mixed_3c": (256, (128, 128, 192, 32, 96, 64)),
    "Mixed_4b": (480, (192, 96, 208, 16, 48, 64)),
    "Mixed_4c": (512, (160, 112, 224, 24, 64, 64)),
    "Mixed_4d": (512, (128, 128, 256, 24, 64, 64)),
    "Mixed_4e": (512, (112, 144, 288, 32, 64, 64)),
    "Mixed_4f": (528, (256, 160, 320, 32, 128, 128)),
    "Mixed_5b": (832, (256, 160, 320, 32, 128, 128)),
    "Mixed_5c": (832, (384, 192, 384, 48, 128, 128)),
}
STEM = (
    ("Conv3d_1a_7x7", 3, 64, 7, 2),
    ("Conv3d_2b_1x1", 64, 64, 1, 1),
    ("Conv3d_2c_3x3", 64, 192, 3, 1),
)
# (before which layer, size and stride of the pooling)
POOLS = {
    "Conv3d_2b_1x1": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": ((1, 3, 3), (1, 2, 2)),
    "Mixed_4b": ((3, 3, 3), (2, 2, 2)),
    "Mixed_5b": ((2, 2, 2), (2, 2, 2)),
}


def pad_same(x: Tensor, kernel: Sequence[int], stride: Sequence[int]) -> Tensor:
    """Pad (B, C, T, H, W) with zeros as TensorFlow's SAME does: more at the end where it does not come out even."""
    pads: list[int] = []
    for size, k, s in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        total = max((-(-size // s) - 1) * s + k - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads)


class Unit(nn.Module):
    """Convolution with SAME padding, batch norm and ReLU; a bare one with bias for the logits."""

    def __init__(self, inside: int, outside: int, kernel: int = 1, stride: int = 1, *, bare: bool = False) -> None:
        super().__init__()
        self.kernel, self.stride = (kernel,) * 3, (stride,) * 3
        self.conv3d = nn.Conv3d(inside, outside, kernel, stride, bias=bare)
        self.bn = None if bare else nn.BatchNorm3d(outside, eps=1e-3, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, outside, T', H', W')."""
        y: Tensor = self.conv3d(pad_same(x, self.kernel, self.stride))
        return y if self.bn is None else F.relu(self.bn(y))


class Mixed(nn.Module):
    """Four branches side by side (Szegedy et al., 2015), inflated."""

    def __init__(self, inside: int, sizes: Sequence[int]) -> None:
        super().__init__()
        self.b0 = Unit(inside, sizes[0])
        self.b1a, self.b1b = Unit(inside, sizes[1]), Unit(sizes[1], sizes[2], 3)
        self.b2a, self.b2b = Unit(inside, sizes[3]), Unit(sizes[3], sizes[4], 3)
        self.b3b = Unit(inside, sizes[5])

    def forward(self, x: Tensor) -> Tensor:
        """Return all branches, one after another along the channels."""
        pooled = F.max_pool3d(pad_same(x, (3, 3, 3), (1, 1, 1)), 3, 1)
        return torch.cat([self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(pooled)], 1)


class I3D(nn.Module):
    """The RGB network: (B, 3, T, 224, 224) in [-1, 1] to logits (B, 400), averaged over time, before any softmax.

    `eps` is that of every batch norm: 1e-3 in the original, 1e-5 in the port that MM-Diffusion took over.
    """

    def __init__(self, eps: float = 1e-3) -> None:
        super().__init__()
        for name, inside, outside, kernel, stride in STEM:
            self.add_module(name, Unit(inside, outside, kernel, stride))
        for name, (inside, sizes) in BLOCKS.items():
            self.add_module(name, Mixed(inside, sizes))
        self.logits = Unit(1024, CLASSES, bare=True)
        for norm in (layer for layer in self.modules() if isinstance(layer, nn.BatchNorm3d)):
            norm.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        for name, layer in self.named_children():
            if name in POOLS:
                size, stride = POOLS[name]
                x = F.max_pool3d(pad_same(x, size, stride), size, stride)
            if name != "logits":
                x = layer(x)
        x = F.avg_pool3d(x, (2, 7, 7), 1)
        found: Tensor = self.logits(x)
        return found[..., 0, 0].mean(2)
