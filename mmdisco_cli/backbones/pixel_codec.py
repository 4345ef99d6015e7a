"""The image codec of the built-in base model for small images: their pixels, at zero mean and unit variance."""

import torch
from torch import Tensor, nn

from mmdisco_cli.diffusion.backbone import ModalityPlan, Request
from mmdisco_cli.errors import UsageError


class PixelCodec(nn.Module):
    """Encode images (B, C, H, W) to latents of the same shape and back; nothing of it is trained."""

    mean: Tensor
    std: Tensor
    batch = 64
    """Images in a training step, of which it needs none."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def plan(self, request: Request, notes: tuple[str, ...] = ()) -> ModalityPlan:
        """Return the shapes for the request's height and width."""
        if request.height is None or request.width is None:
            raise UsageError("request: the `pixels` codec needs height and width")
        shape = (self.channels, request.height, request.width)
        return ModalityPlan(shape, shape, None, 0.0, notes)

    def encode(self, image: Tensor) -> Tensor:
        """Return latents of about zero mean and unit variance."""
        return (image - _per_channel(self.mean)) / _per_channel(self.std)

    def decode(self, latent: Tensor) -> Tensor:
        """Return images in [-1, 1]."""
        return (latent * _per_channel(self.std) + _per_channel(self.mean)).clamp(-1, 1)

    def compact(self, image: Tensor) -> Tensor:
        """Return images as bytes."""
        return ((image + 1) * 127.5).round().byte()

    def expand(self, items: Tensor) -> Tensor:
        """Return the result of `compact` as floats in [-1, 1]."""
        return items.float() / 127.5 - 1

    def reconstruction_loss(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """Return 0: pixels are kept as they are."""
        return image.new_zeros(())

    @torch.no_grad()
    def measure(self, image: Tensor) -> None:
        """Set the latent normalisation from images (N, C, H, W)."""
        self.mean.copy_(image.mean((0, 2, 3)))
        self.std.copy_(image.std((0, 2, 3)).clamp_min(1e-3))


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]
