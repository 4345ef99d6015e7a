"""A theremin as a base model: latents are pitch and loudness, standard normal, ten times a second."""

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
    info = ModalityInfo("audio", "epsilon", latent_channels=2, rate=RATE)

    @property
    def fingerprint(self) -> str:
        return f"theremin-1 {self.options.pitch:g} Hz"

    def plan(self, request: Request) -> ModalityPlan:
        steps = max(1, round((request.seconds or 2.0) * RATE / HOP))
        return ModalityPlan((2, steps), (1, steps * HOP), RATE, steps * HOP / RATE)

    def grid(self, steps: int, plan: ModalityPlan) -> Levels:
        return cosine().grid(steps)

    def levels_at(self, u: Tensor, plan: ModalityPlan) -> Levels:
        return cosine().levels_at(u)

    def encode_prompt(self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: ModalityPlan) -> Condition:
        return Condition()

    def predict(self, x: Tensor, t: Tensor, condition: Payload, plan: ModalityPlan) -> Tensor:
        return cosine().levels_at(t).sigma[:, None, None] * x  # what epsilon is, on average, where x_0 is N(0, 1)

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        windows = media[:, 0].unflatten(1, (-1, HOP))
        loudness = windows.square().mean(2).mul(2).sqrt().clamp(1e-3, 1 - 1e-3)
        turns = (windows.sign().diff(dim=2) != 0).sum(2).clamp(min=1) / 2
        return torch.stack([(turns * RATE / HOP / self.options.pitch).log2() * 2, loudness.logit()], 1)

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        pitch, loudness = torch.nn.functional.interpolate(latent, scale_factor=HOP, mode="linear").chunk(2, 1)
        phase = (self.options.pitch * 2 ** (pitch / 2) / RATE).double().cumsum(2) * 2 * torch.pi
        return loudness.sigmoid() * phase.sin().float()


def build(modality: str, options: ThereminOptions, request: Request) -> Theremin:
    return Theremin(options)
