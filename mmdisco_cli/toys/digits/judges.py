"""The judges: two small independent classifiers, of spoken and of written digits, that no generator's data has trained.

They are trained by `judge_training` on the part `judges` of the real data. A text is judged by what it says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmdisco_cli.backbones.logmel import encode_logmel
from mmdisco_cli.diffusion.backbone import AUDIO, IMAGE
from mmdisco_cli.toys.digits.dataset import SAMPLE_RATE, SECONDS, WORDS
from mmdisco_cli.toys.digits.written import SIDE
from mmdisco_cli.weights_file import find_weights, load_weights, read_about

WEIGHTS, KIND = "digits-judges", "judge"
FEATURES = 64
SAMPLES = round(SECONDS * SAMPLE_RATE)
BATCH = 64
QUIET = 4.0
"""Units of log-mel below a recording's loudest at which it counts as silence: 56 dB."""


@dataclass(frozen=True)
class Verdicts:
    """Of N samples of one modality: the digit of each (N,), -1 where there is none, and features (N, 64), if any."""

    digits: Tensor
    features: Tensor | None = None


class ImageJudge(nn.Module):
    """Classify images (N, 1, 28, 28) in [-1, 1], light on dark."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Flatten(),
            nn.Linear(32 * 7 * 7, FEATURES), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(FEATURES, len(WORDS))

    def features(self, images: Tensor) -> Tensor:
        """Return what the last layer reads, (N, 64)."""
        found: Tensor = self.convolutions(images)
        return found

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, 10)."""
        logits: Tensor = self.head(self.features(images))
        return logits


class AudioJudge(nn.Module):
    """Classify log-mel spectrograms (N, 64, T) of recordings, whatever their level and where in them the word is."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 16, 32, 48, 64)
        self.convolutions = nn.Sequential(*(layer for a, b in pairwise(widths) for layer in _downwards(a, b)))
        self.mix = nn.Sequential(nn.Linear(64 * 4 * 2, FEATURES), nn.ReLU())
        self.head = nn.Linear(FEATURES, len(WORDS))

    def features(self, mel: Tensor) -> Tensor:
        """Return what the last layer reads, (N, 64)."""
        found = self.convolutions(levelled(mel)[:, None])
        found = torch.cat([found.mean(3), found.amax(3)], 1).flatten(1)
        mixed: Tensor = self.mix(found)
        return mixed

    def forward(self, mel: Tensor) -> Tensor:
        """Return logits (N, 10)."""
        logits: Tensor = self.head(self.features(mel))
        return logits


class Judges(nn.Module):
    """Both classifiers."""

    def __init__(self) -> None:
        super().__init__()
        self.audio, self.image = AudioJudge(), ImageJudge()

    @torch.no_grad()
    def judge(self, kind: str, media: Tensor) -> Verdicts:
        """Return the verdicts on media (N, ...) of the kind audio or image, of any length or size."""
        network, items = (self.audio, mel_of(media)) if kind == AUDIO else (self.image, framed(media))
        features = torch.cat([network.features(part) for part in items.split(BATCH)])
        return Verdicts(network.head(features).argmax(1), features)


def levelled(mel: Tensor) -> Tensor:
    """Return log-mel spectrograms (N, 64, T) relative to their loudest cell, from -1 at silence to 1."""
    loudest = mel.amax((1, 2), keepdim=True)
    return ((mel - loudest) / QUIET * 2 + 1).clamp_min(-1)


def mel_of(audio: Tensor) -> Tensor:
    """Return the log-mel spectrograms (N, 64, 100) of audio (N, C, S) at 16 kHz: the first second, in mono."""
    mono = audio.mean(1, keepdim=True)[..., :SAMPLES]
    return encode_logmel(F.pad(mono, (0, SAMPLES - mono.shape[-1])), SAMPLE_RATE)


def framed(images: Tensor) -> Tensor:
    """Return images (N, C, H, W) as (N, 1, 28, 28), light on dark: the middle, inverted where the border is light."""
    grey = images.mean(1, keepdim=True)
    top, left = (grey.shape[2] - SIDE) // 2, (grey.shape[3] - SIDE) // 2
    grey = grey[:, :, top : top + SIDE, left : left + SIDE]
    border = torch.cat([grey[:, :, 0], grey[:, :, -1], grey[..., 0], grey[..., -1]], 2)
    return grey * torch.where(border.flatten(1).median(1).values > 0, -1.0, 1.0)[:, None, None, None]


def digits_of(texts: Sequence[str]) -> Verdicts:
    """Return what texts say: the digit of a name or of a numeral, -1 of anything else."""
    known = {name: digit for digit, name in enumerate(WORDS)} | {str(digit): digit for digit in range(len(WORDS))}
    return Verdicts(torch.tensor([known.get(text.strip().casefold(), -1) for text in texts]))


def load_judges() -> tuple[Judges, Mapping[str, Any]]:
    """Return the shipped judges, and what was measured of them: accuracy on held-out real data by kind."""
    path, judges = find_weights(WEIGHTS), Judges()
    about = read_about(path, KIND)
    load_weights(path, judges)
    return judges.eval().requires_grad_(False), about["results"]


def kinds_judged() -> tuple[str, ...]:
    """Return the kinds of media that a classifier reads."""
    return (AUDIO, IMAGE)


def _downwards(inside: int, outside: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(inside, outside, 3, stride=2, padding=1), nn.GroupNorm(4, outside), nn.ReLU()
