"""The audio codec of the built-in base model: a convolutional autoencoder of log-mel spectrograms."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdisco_cli.backbones.logmel import HOP, MELS, decode_logmel, encode_logmel
from mmdisco_cli.diffusion.backbone import ModalityPlan, Request
from mmdisco_cli.errors import UsageError

SAMPLE_RATE = 16000
STRIDE = 2
"""Log-mel frames of 10 ms in one latent step."""


class AudioCodec(nn.Module):
    """Encode mono audio (B, 1, S) to latents (B, C, S / 320) and back to a waveform.

    Its code is bounded, and noise added in training, as in `FrameCodec`: a denoiser's small errors stay inaudible.
    """

    mean: Tensor
    std: Tensor
    batch = 32
    """Log-mel spectrograms in a training step."""

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

    def encode(self, audio: Tensor) -> Tensor:
        """Return latents of about zero mean and unit variance."""
        mel = encode_logmel(audio.cpu(), SAMPLE_RATE).to(audio.device)
        return (self._code(mel) - self.mean[:, None]) / self.std[:, None]

    def decode(self, latent: Tensor) -> Tensor:
        """Return audio (B, 1, samples) in [-1, 1]."""
        code = (latent * self.std[:, None] + self.mean[:, None]).clamp(-1, 1)
        return decode_logmel(self.decoder(code).cpu(), SAMPLE_RATE).to(latent.device)

    def compact(self, audio: Tensor) -> Tensor:
        """Return the log-mel spectrograms (B, 64, T) of audio for training, in half precision."""
        return encode_logmel(audio, SAMPLE_RATE).half()

    def expand(self, items: Tensor) -> Tensor:
        """Return the result of `compact` in float32, as the network takes it."""
        return items.float()

    def reconstruction_loss(self, mel: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean absolute and squared error of log-mel spectrograms (N, 64, T) through a noisy code."""
        code = self._code(mel)
        noise = torch.randn(code.shape, generator=generator).to(code.device)
        error = self.decoder(code + self.noise * noise) - mel
        loss: Tensor = error.abs().mean() + 2 * error.square().mean()
        return loss

    @torch.no_grad()
    def measure(self, mel: Tensor) -> None:
        """Set the latent normalisation from log-mel spectrograms (N, 64, T)."""
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
