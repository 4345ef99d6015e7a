"""The hand that plays the theremin as a base model of video: to the right is higher, upwards is louder."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Condition, ModalityInfo, ModalityPlan, Payload, Request
from mmdisco_cli.diffusion.schedules import Levels, cosine
from mmdisco_example import HandOptions
from mmdisco_example.backbone import condition_of, epsilon_of

FPS, REACH, SIZE = 10, 0.8, 32


@dataclass(frozen=True)
class Hand:
    """A `mmdisco_cli.diffusion.backbone.Backbone` of video: latents (2, T, 1, 1), media (3, T, H, W)."""

    options: HandOptions
    info = ModalityInfo("video", "epsilon", latent_channels=2, rate=FPS, pooled_dim=1)

    @property
    def fingerprint(self) -> str:
        return f"hand-1 {self.options.radius:g}"

    def plan(self, request: Request) -> ModalityPlan:
        frames = request.frames or max(1, round((request.seconds or 2.0) * FPS))
        media_shape = (3, frames, request.height or SIZE, request.width or SIZE)
        notes = (f"video: {FPS} frames a second, not {request.fps:g}",) if request.fps not in (None, FPS) else ()
        return ModalityPlan((2, frames, 1, 1), media_shape, FPS, frames / FPS, notes)

    def grid(self, steps: int, plan: ModalityPlan) -> Levels:
        return cosine().grid(steps)

    def levels_at(self, u: Tensor, plan: ModalityPlan) -> Levels:
        return cosine().levels_at(u)

    def encode_prompt(self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: ModalityPlan) -> Condition:
        return condition_of(prompts, negatives)

    def predict(self, x: Tensor, t: Tensor, condition: Payload, plan: ModalityPlan) -> Tensor:
        return epsilon_of(x, t, condition)

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        light = (media.mean(1) + 1).square()  # (B, T, H, W), squared so that a faint background weighs nothing
        total = light.sum((2, 3)).clamp(min=1e-6)
        places = [(light * axis).sum((2, 3)) / total for axis in axes_of(media)]
        return (torch.stack(places, 1) / REACH).clamp(-0.999, 0.999).atanh().mul(2)[..., None, None]

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        shape = (len(latent), *plan.media_shape)
        right, up = axes_of(latent.new_empty(shape[-2:]))
        across, above = (latent / 2).tanh().mul(REACH).unbind(1)
        distance = (right - across).square() + (up - above).square()
        return ((-distance / (2 * self.options.radius**2)).exp() * 2 - 1).unsqueeze(1).expand(shape)


def build(modality: str, options: HandOptions, request: Request) -> Hand:
    return Hand(options)


def axes_of(media: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each pixel of media (..., H, W) lies, from -1 to 1: rightwards (1, W) and upwards (H, 1)."""
    height, width = media.shape[-2:]
    right = torch.linspace(-1, 1, width, device=media.device)
    return right[None], torch.linspace(1, -1, height, device=media.device)[:, None]
