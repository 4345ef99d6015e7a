"""The video codec of the built-in base model: a convolutional autoencoder applied to every frame by itself."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdisco_cli.diffusion.backbone import ModalityPlan, Request
from mmdisco_cli.errors import UsageError

STRIDE = 16
"""Pixels along each edge of one latent cell."""


class FrameCodec(nn.Module):
    """Encode frames (B, 3, T, H, W) to latents (B, C, T, H/16, W/16) and back.

    The code is bounded by tanh, and a little noise is added to it in training, so that nearby latents decode alike and
    a denoiser's small errors stay invisible.
    """

    mean: Tensor
    std: Tensor
    batch = 96
    """Frames in a training step."""

    def __init__(self, channels: int, noise: float = 0.05) -> None:
        super().__init__()
        self.channels, self.noise = channels, noise
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, 64, 3, padding=1), Residual(64),
            nn.Conv2d(64, 96, 2, stride=2), Residual(96),
            nn.Conv2d(96, 128, 2, stride=2), Residual(128),
            nn.Conv2d(128, channels, 1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, 128, 3, padding=1), Residual(128), Residual(128),
            nn.ConvTranspose2d(128, 96, 2, stride=2), Residual(96),
            nn.ConvTranspose2d(96, 64, 2, stride=2), Residual(64),
            nn.Conv2d(64, 128, 3, padding=1), nn.PixelShuffle(2), nn.SiLU(),
            nn.Conv2d(32, 12, 3, padding=1), nn.PixelShuffle(2),
        )  # fmt: skip
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def plan(self, request: Request, notes: tuple[str, ...] = ()) -> ModalityPlan:
        """Return the shapes for the request's frames, rate and size, the size rounded to whole latent cells."""
        if request.frames is None or request.fps is None or request.height is None or request.width is None:
            raise UsageError("request: the `frames` codec needs frames, fps, height and width")
        cells = tuple(max(round(pixels / STRIDE), 1) for pixels in (request.height, request.width))
        media = (3, request.frames, *(STRIDE * n for n in cells))
        latent = (self.channels, request.frames, *cells)
        return ModalityPlan(latent, media, request.fps, request.frames / request.fps, notes)

    def encode(self, video: Tensor) -> Tensor:
        """Return latents of about zero mean and unit variance."""
        code = unfold_frames(self._code(fold_frames(video)), len(video))
        return (code - _per_channel(self.mean)) / _per_channel(self.std)

    def decode(self, latent: Tensor) -> Tensor:
        """Return frames in [-1, 1]."""
        code = latent * _per_channel(self.std) + _per_channel(self.mean)
        pixels: Tensor = self.decoder(fold_frames(code).clamp(-1, 1))
        return unfold_frames(pixels, len(latent)).clamp(-1, 1)

    def compact(self, video: Tensor) -> Tensor:
        """Return the single frames (B * T, 3, H, W) of video for training, as bytes."""
        return fold_frames(((video + 1) * 127.5).round().byte())

    def expand(self, items: Tensor) -> Tensor:
        """Return the result of `compact` as floats in [-1, 1], as the network takes them."""
        return items.float() / 127.5 - 1

    def reconstruction_loss(self, frames: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean absolute and squared error of frames (N, 3, H, W) through a noisy code."""
        code = self._code(frames)
        noise = torch.randn(code.shape, generator=generator).to(code.device)
        error = self.decoder(code + self.noise * noise) - frames
        loss: Tensor = error.abs().mean() + 4 * error.square().mean()
        return loss

    @torch.no_grad()
    def measure(self, frames: Tensor) -> None:
        """Set the latent normalisation from frames (N, 3, H, W)."""
        code = self._code(frames)
        self.mean.copy_(code.mean((0, 2, 3)))
        self.std.copy_(code.std((0, 2, 3)))

    def _code(self, frames: Tensor) -> Tensor:
        code: Tensor = self.encoder(frames)
        return torch.tanh(code)


class Residual(nn.Module):
    """Two 3x3 convolutions around a skip, at constant size and width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width, H, W) to the same shape."""
        hidden: Tensor = self.second(F.silu(self.first(F.silu(self.norm(x)))))
        return x + hidden


def fold_frames(video: Tensor) -> Tensor:
    """Return (B, C, T, H, W) as (B * T, C, H, W)."""
    return video.transpose(1, 2).flatten(0, 1)


def unfold_frames(frames: Tensor, batch: int) -> Tensor:
    """Return (B * T, C, H, W) as (B, C, T, H, W)."""
    video: Tensor = frames.unflatten(0, (batch, -1)).transpose(1, 2)
    return video


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None, None]
