"""A generator that is not a diffusion model: grey images of a slope, whose two numbers are standard normal."""

import torch
from torch import Tensor, nn

from mmdisco_cli.backbones.latent_gaussian import LatentGaussian
from mmdisco_cli.diffusion.backbone import IMAGE, Request
from mmdisco_example import SlopeOptions


class Slope(nn.Module):
    """A `mmdisco_cli.backbones.latent_gaussian.Generator`, as of a VAE, a GAN or a flow."""

    kind: str = IMAGE
    rate: float | None = None
    planes: Tensor

    def __init__(self, side: int) -> None:
        super().__init__()
        self.latent_shape: tuple[int, ...] = (2,)
        self.media_shape: tuple[int, ...] = (1, side, side)
        place = torch.linspace(-0.5, 0.5, side)
        self.register_buffer("planes", torch.stack(torch.meshgrid(place, place, indexing="ij")).flatten(1))

    @property
    def module(self) -> nn.Module:
        return self

    def decode(self, z: Tensor) -> Tensor:
        return torch.tanh(z @ self.planes).reshape(-1, *self.media_shape)

    def encode(self, media: Tensor) -> Tensor:
        back: Tensor = torch.linalg.pinv(self.planes)
        return torch.atanh(media.flatten(1).clamp(-0.9999, 0.9999)) @ back


def build(modality: str, options: SlopeOptions, request: Request) -> LatentGaussian:
    # The denoiser, the noise levels and the rest of a backbone are those of any standard normal latent.
    return LatentGaussian(modality, Slope(options.side), f"slope-1 {options.side}")
