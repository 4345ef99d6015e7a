"""Sound as a small latent: a convolutional autoencoder of log-mel pictures, trained on sound alone."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdisco_cli.backbones.logmel import HOP, MELS, decode_logmel, encode_logmel
from mmdisco_cli.diffusion.backbone import ModalityPlan, Request
from mmdisco_cli.errors import UsageError

SAMPLE_RATE = 16000
STRIDE = 2
"""Log-mel frames of 10 ms that one latent step stands for."""


class SoundCodec(nn.Module):
    """Encode mono sound (B, 1, S) to latents (B, C, S / 320) and back to a waveform.

    Bounded and blurred in training for the reason that `FrameCodec` is: a denoiser's small errors must not be heard.
    """

    mean: Tensor
    std: Tensor
    batch = 32
    """Log-mel pictures in a training step."""

    def __init__(self, channels: int, noise: float = 0.05, width: int = 96) -> None:
        super().__init__()
        self.channels, self.noise = channels, noise
        self.encoder = nn.Sequential(
            nn.Conv1d(MELS, width, 3, padding=1), Residual1d(width), Residual1d(width),
            nn.Conv1d(width, width, STRIDE, stride=STRIDE), Residual1d(width),
            nn.Conv1d(width, channels, 1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv1d(channels, width, 3, padding=1), Residual1d(width), Residual1d(width),
            nn.ConvTranspose1d(width, width, STRIDE, stride=STRIDE), Residual1d(width), Residual1d(width),
            nn.Conv1d(width, MELS, 3, padding=1),
        )  # fmt: skip
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    def plan(self, request: Request, notes: tuple[str, ...] = ()) -> ModalityPlan:
        """Return the shapes for `request.seconds`, rounded to whole latent steps."""
        if request.seconds is None:
            raise UsageError("request.seconds: the `sound` codec needs a length")
        steps = max(round(request.seconds * SAMPLE_RATE / (HOP * STRIDE)), 1)
        samples = steps * HOP * STRIDE
        return ModalityPlan((self.channels, steps), (1, samples), SAMPLE_RATE, samples / SAMPLE_RATE, notes)

    def encode(self, sound: Tensor) -> Tensor:
        """Return latents of about zero mean and unit variance."""
        mel = encode_logmel(sound.cpu(), SAMPLE_RATE).to(sound.device)
        return (self._code(mel) - self.mean[:, None]) / self.std[:, None]

    def decode(self, latent: Tensor) -> Tensor:
        """Return sound in [-1, 1]."""
        code = (latent * self.std[:, None] + self.mean[:, None]).clamp(-1, 1)
        return decode_logmel(self.decoder(code).cpu(), SAMPLE_RATE).to(latent.device)

    def compact(self, sound: Tensor) -> Tensor:
        """Return the log-mel pictures (B, 64, T) that training draws from, in half precision."""
        return encode_logmel(sound, SAMPLE_RATE).half()

    def expand(self, items: Tensor) -> Tensor:
        """Return compact items as the network takes them."""
        return items.float()

    def reconstruction_loss(self, mel: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean absolute and squared error of log-mel pictures (N, 64, T) through a noisy code."""
        code = self._code(mel)
        noise = torch.randn(code.shape, generator=generator).to(code.device)
        error = self.decoder(code + self.noise * noise) - mel
        loss: Tensor = error.abs().mean() + 2 * error.square().mean()
        return loss

    @torch.no_grad()
    def measure(self, mel: Tensor) -> None:
        """Set the latent normalisation from log-mel pictures (N, 64, T)."""
        code = self._code(mel)
        self.mean.copy_(code.mean((0, 2)))
        self.std.copy_(code.std((0, 2)))

    def _code(self, mel: Tensor) -> Tensor:
        code: Tensor = self.encoder(mel)
        return torch.tanh(code)


class Residual1d(nn.Module):
    """Two convolutions of width 3 around a skip, at constant length and width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.first = nn.Conv1d(width, width, 3, padding=1)
        self.second = nn.Conv1d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, width, T) to the same shape."""
        hidden: Tensor = self.second(F.silu(self.first(F.silu(self.norm(x)))))
        return x + hidden
