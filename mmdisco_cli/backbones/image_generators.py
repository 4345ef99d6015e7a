"""Two small trainable generators of small images for `latent-gaussian`: a VAE, and a GAN with an encoder."""

import hashlib
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from mmdisco_cli.diffusion.backbone import IMAGE, Request
from mmdisco_cli.errors import UsageError

CELL = 4
"""Pixels along each edge of one cell of the coarsest features."""


class ImageVAE(nn.Module):
    """A variational autoencoder of images (B, C, H, W) in [-1, 1] (Kingma & Welling, arXiv 1312.6114)."""

    kind: str = IMAGE
    rate: float | None = None

    def __init__(self, media_shape: tuple[int, ...], latent: int, width: int) -> None:
        super().__init__()
        self.media_shape = media_shape
        self.latent_shape: tuple[int, ...] = (latent,)
        self.encoder = reader(media_shape, 2 * latent, width)
        self.decoder = writer(media_shape, latent, width)

    @property
    def module(self) -> nn.Module:
        """Return all weights."""
        return self

    def encode(self, media: Tensor) -> Tensor:
        """Return a draw from the posterior, whose noise is keyed by the media: means alone vary less than z does."""
        mean, log_std = self.encoder(media).chunk(2, 1)
        noise = torch.stack([_noise_of(one, mean.shape[1]) for one in media])
        drawn: Tensor = mean + log_std.exp() * noise.to(mean)
        return drawn

    def decode(self, z: Tensor) -> Tensor:
        """Return the expected image."""
        return 2 * torch.sigmoid(self.decoder(z)) - 1

    def loss(self, media: Tensor, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        """Return the negative evidence lower bound a pixel, in nats: cross-entropy of grey levels and KL divergence."""
        mean, log_std = self.encoder(media).float().chunk(2, 1)
        z = mean + log_std.exp() * torch.randn(mean.shape, generator=generator).to(mean)
        missed = F.binary_cross_entropy_with_logits(self.decoder(z).float(), (media + 1) / 2, reduction="sum")
        apart = ((mean.square() + (2 * log_std).exp() - 1) / 2 - log_std).sum()
        pixels = media.numel()
        return (missed + apart) / pixels, {"kl": float(apart.detach()) / len(media)}


class ImageGAN(nn.Module):
    """A generative adversarial network, and an encoder that finds the z of an image (B, C, H, W) in [-1, 1].

    Generator and discriminator take their steps together, each against the other held fixed, on the non-saturating
    loss; the discriminator must not change under little noise on its input, which stands for a penalty on its gradient.
    The encoder finds the z of generated images, and z of real ones from which they are generated again.
    """

    kind: str = IMAGE
    rate: float | None = None
    smooth, noise = 100.0, 0.05
    """Weight of the discriminator's penalty, and the standard deviation of its noise."""

    def __init__(self, media_shape: tuple[int, ...], latent: int, width: int) -> None:
        super().__init__()
        self.media_shape = media_shape
        self.latent_shape: tuple[int, ...] = (latent,)
        self.encoder = reader(media_shape, latent, width)
        self.decoder = writer(media_shape, latent, width)
        self.critic = reader(media_shape, 1, width)

    @property
    def module(self) -> nn.Module:
        """Return all weights."""
        return self

    def encode(self, media: Tensor) -> Tensor:
        """Return the z from which the generator makes about this image."""
        z: Tensor = self.encoder(media)
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Return the generated image."""
        return torch.tanh(self.decoder(z))

    def loss(self, media: Tensor, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        """Return the sum of the three networks' losses; none of them pulls at another's weights."""
        z = torch.randn(len(media), *self.latent_shape, generator=generator).to(media)
        made = self.decode(z)
        fixed = {name: p.detach() for name, p in self.critic.named_parameters()}
        fooled = F.softplus(-functional_call(self.critic, fixed, (made,))).mean()
        critic, gap = self._critic_loss(media, made.detach(), generator)
        found = self.encoder(made.detach())
        frozen = {name: p.detach() for name, p in self.decoder.named_parameters()}
        coded = self.encoder(media)
        again = torch.tanh(functional_call(self.decoder, frozen, (coded,)))
        moments = coded.mean(0).square().mean() + (coded.var(0) - 1).square().mean()
        missed = (found - z).square().mean() + 2 * (again - media).square().mean() + 0.1 * moments
        return fooled + critic + missed, {"gap": gap, "z_error": float((found - z).square().mean().detach())}

    def _critic_loss(self, real: Tensor, fake: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
        both = torch.cat([real, fake])
        near = both + self.noise * torch.randn(both.shape, generator=generator).to(both)
        scores, beside = self.critic(torch.cat([both, near])).float().chunk(2)
        of_real, of_fake = scores.chunk(2)
        classification = F.softplus(-of_real).mean() + F.softplus(of_fake).mean()
        loss = classification + self.smooth * (scores - beside).square().mean()
        return loss, float((of_real.mean() - of_fake.mean()).detach())


IMAGE_GENERATORS: dict[str, type[ImageVAE] | type[ImageGAN]] = {"vae": ImageVAE, "gan": ImageGAN}


def image_generator(name: str, request: Request, channels: int, latent: int, width: int) -> ImageVAE | ImageGAN:
    """Return an untrained generator by name, of images of the requested size.

    Raises:
        UsageError: no size is requested, or none that consists of whole cells.
    """
    height, wide = request.height, request.width
    if height is None or wide is None or height % CELL or wide % CELL:
        raise UsageError(f"request: the generator {name} needs height and width in multiples of {CELL}")
    return IMAGE_GENERATORS[name]((channels, height, wide), latent, width)


def reader(shape: tuple[int, ...], outputs: int, width: int) -> nn.Sequential:
    """Return a network from images (B, C, H, W) to vectors (B, outputs)."""
    channels, height, wide = shape
    return nn.Sequential(
        nn.Conv2d(channels, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1), nn.LeakyReLU(0.2), nn.Flatten(),
        nn.Linear(2 * width * (height // CELL) * (wide // CELL), 8 * width), nn.LeakyReLU(0.2),
        nn.Linear(8 * width, outputs),
    )  # fmt: skip


def writer(shape: tuple[int, ...], inputs: int, width: int) -> nn.Sequential:
    """Return a network from vectors (B, inputs) to images (B, C, H, W), unbounded."""
    channels, height, wide = shape
    cells = (2 * width, height // CELL, wide // CELL)
    return nn.Sequential(
        nn.Linear(inputs, 8 * width), nn.LayerNorm(8 * width), nn.LeakyReLU(0.2),
        nn.Linear(8 * width, cells[0] * cells[1] * cells[2]), nn.Unflatten(1, cells),
        nn.GroupNorm(4, 2 * width), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1), nn.GroupNorm(4, width), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
    )  # fmt: skip


def _noise_of(item: Tensor, size: int) -> Tensor:
    """Return noise (size,) that depends on an item's own values alone, and not on their last bits."""
    content = (item.float() * 127.5).round().short().cpu().numpy().tobytes()
    seed = int.from_bytes(hashlib.sha256(content).digest()[:8], "little") >> 1
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))
