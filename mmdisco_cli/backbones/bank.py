"""Backbone `bank`: the exact denoiser of a finite set of samples, of any modality; there is nothing to train.

For x_u = alpha x_0 + sigma epsilon with x_0 uniform over items a_i, the posterior mean is a softmax over the set:

    E[x_0 | x_u] = sum_i w_i a_i,  w = softmax(-|x_u - alpha a_i|^2 / (2 sigma^2))

Its samples are the items themselves, each as often as any other. Strings become points of a unit mean square, equally
far from one another where there are at most 64.
"""

import hashlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.backbones.options import BankOptions
from mmdisco_cli.diffusion.backbone import (
    AUDIO,
    KINDS,
    TEXT,
    VIDEO,
    Condition,
    ModalityInfo,
    ModalityPlan,
    Payload,
    Request,
)
from mmdisco_cli.diffusion.prediction import per_sample
from mmdisco_cli.diffusion.schedules import Levels, cosine
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.tensors.files import read_safetensors

MOST_APART = 64
"""Strings up to which each has a coordinate of its own."""
SMALLEST = 1e-4
"""Sigma below which the nearest item is the answer."""


class BankBackbone:
    """A set of latents (N, *latent_shape): a `diffusion.backbone.Backbone`."""

    def __init__(self, modality: str, options: BankOptions, items: Tensor, kind: str, fingerprint: str) -> None:
        self.modality, self.options, self.kind, self.fingerprint = modality, options, kind, fingerprint
        self.schedule, self.items, self.parameters = cosine(), items, 0
        self.mean, self.std = items.mean(), items.std(correction=0).clamp_min(1e-6)
        self.latents = (items - self.mean) / self.std

    @property
    def info(self) -> ModalityInfo:
        """Describe the modality."""
        return ModalityInfo(self.modality, "sample", self.latents.shape[1], self.options.rate, kind=self.kind)

    def to(self, device: torch.device) -> None:
        """Move the items."""
        self.latents, self.items = self.latents.to(device), self.items.to(device)
        self.mean, self.std = self.mean.to(device), self.std.to(device)

    def plan(self, request: Request) -> ModalityPlan:
        """Return the one shape that the items have."""
        media, rate = tuple(self.items.shape[1:]), self.options.rate
        length = {AUDIO: -1, VIDEO: 1}.get(self.kind)
        seconds = media[length] / rate if rate and length is not None else 0.0
        return ModalityPlan(tuple(self.latents.shape[1:]), media, rate, seconds)

    def grid(self, steps: int, plan: ModalityPlan) -> Levels:
        """Return the cosine schedule's grid."""
        return self.schedule.grid(steps)

    def levels_at(self, u: Tensor, plan: ModalityPlan) -> Levels:
        """Return the cosine schedule's levels."""
        return self.schedule.levels_at(u)

    def encode_prompt(self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: ModalityPlan) -> Condition:
        """Return the empty condition: a set takes no prompt."""
        return Condition()

    @torch.no_grad()
    def predict(self, x: Tensor, t: Tensor, condition: Payload, plan: ModalityPlan) -> Tensor:
        """Return the posterior mean of x_0 for x (B, ...) at native times t (B,), which are the progress u itself."""
        _, alpha, sigma = self.schedule.levels_at(t)
        wide = torch.float32 if x.device.type == "mps" else torch.float64
        points, state = self.latents.flatten(1).to(wide), x.flatten(1).to(wide)
        a, s = per_sample(alpha, state).to(wide), per_sample(sigma, state).to(wide).clamp_min(SMALLEST)
        # |x|^2 is the same for all items and falls out of the softmax.
        weights = ((a * (state @ points.T) - a.square() * points.square().sum(1) / 2) / s.square()).softmax(1)
        return (weights @ points).to(torch.promote_types(x.dtype, torch.float32)).reshape(x.shape)

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the latents of media, which need not be of the set."""
        return (media - self.mean) / self.std

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the media of latents."""
        return latent * self.std + self.mean


class TextBank(BankBackbone):
    """A set of strings: media (B, L) are the numbers of their characters, zeros behind them."""

    def __init__(self, modality: str, options: BankOptions, texts: Sequence[str], fingerprint: str) -> None:
        self.texts = tuple(texts)
        length = max(1, *map(len, self.texts))
        points = torch.tensor([[ord(c) for c in text] + [0] * (length - len(text)) for text in self.texts])
        super().__init__(modality, options, points.float(), TEXT, fingerprint)
        self.mean, self.std, self.latents = torch.zeros(()), torch.ones(()), codes_of(self.texts)

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the latents of the strings whose characters are nearest: of strings of the set their own."""
        return self.latents[torch.cdist(media.float(), self.items).argmin(1)]

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the strings whose latents are nearest."""
        return self.items[torch.cdist(latent.float(), self.latents).argmin(1)]

    def to_text(self, media: Tensor, plan: ModalityPlan) -> list[str]:
        """Return what media (B, L) say."""
        return ["".join(chr(round(c)) for c in row if c >= 1) for row in media.tolist()]

    def from_text(self, texts: Sequence[str], plan: ModalityPlan) -> Tensor:
        """Return media (B, L) of strings of the set, in whatever case; raise ValueError for others."""
        known = {_plain(text): place for place, text in reversed(list(enumerate(self.texts)))}
        if unknown := [text for text in texts if _plain(text) not in known]:
            raise ValueError(f"{unknown[0]!r} is not one of the {len(self.texts)} strings: {_some(self.texts)}")
        return self.items[torch.tensor([known[_plain(text)] for text in texts], dtype=torch.long)]


def codes_of(texts: Sequence[str]) -> Tensor:
    """Return points (N, C) of unit mean square: up to 64 strings have an axis each, more have signs of their hash."""
    if len(texts) <= MOST_APART:
        return torch.eye(len(texts)) * math.sqrt(len(texts))
    hashes = [hashlib.sha256(text.encode()).digest()[: MOST_APART // 8] for text in texts]
    return torch.tensor([[2.0 * (byte >> k & 1) - 1 for byte in one for k in range(8)] for one in hashes])


def build(modality: str, options: BankOptions, request: Request) -> BankBackbone:
    """Build the bank of a recipe: of `texts`, of the lines of a .txt, or of the media of a .safetensors.

    Raises:
        UsageError: neither or both of `texts` and `path` are given, or media of no kind that is known.
        DataError: the file cannot be read, or holds nothing usable.
    """
    if bool(options.texts) == bool(options.path):
        raise UsageError(f"backbones.{modality}: a bank needs either texts or path")
    path = Path(options.path).expanduser() if options.path else None
    if path is None or path.suffix.lower() == ".txt":
        texts = options.texts if path is None else _lines(path)
        if doubled := sorted({text for text in texts if texts.count(text) > 1}):
            raise UsageError(f"backbones.{modality}: {doubled[0]!r} is in the bank twice")
        return TextBank(modality, options, texts, _fingerprint(options, repr(texts).encode()))
    items = _media(path, modality)
    kind = options.kind or (modality if modality in KINDS else "")
    return BankBackbone(modality, options, items, kind, _fingerprint(options, items.numpy().tobytes()))


def _media(path: Path, modality: str) -> Tensor:
    """Return the media (N, ...) of a file: the tensor called like the modality, or the only one."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    tensors: dict[str, Any] = read_safetensors(path)
    found = tensors.get(modality, next(iter(tensors.values())) if len(tensors) == 1 else None)
    if found is None:
        raise DataError(f"{path}: holds {', '.join(sorted(tensors)) or 'nothing'}, and no tensor {modality}")
    if found.ndim < 2 or not len(found) or not bool(found.isfinite().all()):
        raise DataError(f"{path}: {modality} has to hold finite items (N, ...), and has the shape {tuple(found.shape)}")
    media: Tensor = found.float()
    return media


def _lines(path: Path) -> tuple[str, ...]:
    try:
        lines = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if not lines:
        raise DataError(f"{path}: holds no line of text")
    return lines


def _fingerprint(options: BankOptions, content: bytes) -> str:
    return hashlib.sha256(f"bank-1:{options.kind}:{options.rate}".encode() + content).hexdigest()[:16]


def _plain(text: str) -> str:
    return text.strip().casefold()


def _some(texts: Sequence[str], most: int = 10) -> str:
    return ", ".join(texts[:most]) + (", ..." if len(texts) > most else "")
