"""A theremin as a base model: latents are pitch and loudness, ten a second, whose ideal denoiser is known.

Both are normal with variance 1; loudness has mean 0, and pitch 1 throughout a clip of high notes, -1 in one of low.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Condition, ModalityInfo, ModalityPlan, Payload, Request
from mmdisco_cli.diffusion.schedules import Levels, cosine
from mmdisco_example import ThereminOptions

RATE, HOP = 16000, 1600


@dataclass(frozen=True)
class Theremin:
    """A `mmdisco_cli.diffusion.backbone.Backbone`, member by member."""

    options: ThereminOptions
    info = ModalityInfo("audio", "epsilon", latent_channels=2, rate=RATE, pooled_dim=1)

    @property
    def fingerprint(self) -> str:
        return f"theremin-2 {self.options.pitch:g} Hz"

    def plan(self, request: Request) -> ModalityPlan:
        steps = max(1, round((request.seconds or 2.0) * RATE / HOP))
        return ModalityPlan((2, steps), (1, steps * HOP), RATE, steps * HOP / RATE)

    def grid(self, steps: int, plan: ModalityPlan) -> Levels:
        return cosine().grid(steps)

    def levels_at(self, u: Tensor, plan: ModalityPlan) -> Levels:
        return cosine().levels_at(u)

    def encode_prompt(self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: ModalityPlan) -> Condition:
        return condition_of(prompts, negatives)

    def predict(self, x: Tensor, t: Tensor, condition: Payload, plan: ModalityPlan) -> Tensor:
        return epsilon_of(x, t, condition)

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        pitch, loudness = analysed(media)
        return torch.stack([(pitch / self.options.pitch).log2() * 2, loudness.logit()], 1)

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        pitch, loudness = latent.repeat_interleave(HOP, dim=2).chunk(2, 1)
        phase = (self.options.pitch * 2 ** (pitch / 2) / RATE).double().cumsum(2) * 2 * torch.pi
        return loudness.sigmoid() * phase.sin().float()


def build(modality: str, options: ThereminOptions, request: Request) -> Theremin:
    return Theremin(options)


def condition_of(prompts: Sequence[str], negatives: Sequence[str] | None) -> Condition:
    """Return the mean of pitch (B, 1) that each prompt describes, 0 where it says nothing of it."""
    both = (prompts, negatives or [""] * len(prompts))
    positive, negative = (torch.tensor([[mean_of(prompt)] for prompt in part]) for part in both)
    return Condition(positive, negative, pooled=positive, pooled_negative=negative)


def mean_of(prompt: str) -> float:
    """Return 1 for high notes, -1 for low ones and 0 for a text that does not say."""
    return float("high" in prompt) - float("low" in prompt)


def epsilon_of(x: Tensor, t: Tensor, condition: Payload) -> Tensor:
    """Return what epsilon is on average, for x (B, 2, ...) that is alpha * N(mean, 1) + sigma * epsilon."""
    _, alpha, sigma = (level.view(-1, *[1] * (x.ndim - 1)) for level in cosine().levels_at(t))
    pitch = x[:, :1]
    # Without a text either sort of clip is as likely, until all pitches together show which it is.
    mean = (alpha * pitch.flatten(1).sum(1).view_as(alpha)).tanh()
    if isinstance(condition, Tensor):
        described = condition.view_as(alpha)
        mean = torch.where(described == 0, mean, described)
    return sigma * torch.cat([pitch - alpha * mean, x[:, 1:]], 1)


def analysed(sound: Tensor) -> tuple[Tensor, Tensor]:
    """Return the pitch in Hz and the loudness in (0, 1), each (B, T), of the tenths of a second of sound (B, 1, S)."""
    windows = sound[:, 0].unflatten(1, (-1, HOP))
    turns = (windows.sign().diff(dim=2) != 0).sum(2).clamp(min=1) / 2
    return turns * RATE / HOP, windows.square().mean(2).mul(2).sqrt().clamp(1e-3, 1 - 1e-3)
