"""What all models of one modality from diffusers share: the members of `Backbone`.

A family (one file each) implements its pipeline's shapes, conditions and codec, for single prompts and always with a
condition.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import Condition, ModalityInfo, ModalityPlan, Payload, Request, Unread
from mmdisco_cli.diffusion.schedules import Levels, Schedule
from mmdisco_diffusers.levels import ended_clean
from mmdisco_diffusers.options import ModelOptions
from mmdisco_diffusers.parts import Parts, Roles
from mmdisco_diffusers.prompts import Prompts, Row, cast, repeated
from mmdisco_diffusers.stage import Stage
from mmdisco_diffusers.tokens import TextLimit, unread


class Family(Protocol):
    """One family of pipelines; all latents and media are in the layouts of `mmdisco_cli.diffusion.backbone`."""

    @property
    def parts(self) -> Parts:
        """Return the pipeline's parts."""

    @property
    def roles(self) -> Roles:
        """Return which parts are the denoiser, the codec and the text encoders."""

    @property
    def pooled(self) -> str:
        """Return the key of a row whose mean is the pooled prompt."""

    @property
    def limits(self) -> Sequence[TextLimit]:
        """Return how much each text encoder reads of a text."""

    @property
    def info(self) -> ModalityInfo:
        """Describe the modality, with the size of the pooled condition."""

    def schedule(self, plan: ModalityPlan) -> Schedule:
        """Return the noise levels, which may depend on the size of the latents."""

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes for a request."""

    def text(self, prompt: str, negative: str | None, plan: ModalityPlan, device: torch.device) -> tuple[Row, Row]:
        """Return the conditions of a prompt and its negative; None is the pipeline's own default."""

    def predict(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor], plan: ModalityPlan) -> Tensor:
        """Return the native output."""

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the latents of a chunk of media."""

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the media of a chunk of latents, within [-1, 1]."""


class DiffusersBackbone:
    """A family's model as a `mmdisco_cli.diffusion.backbone.Backbone`."""

    takes_prompts = True
    pads_with_zeros = True

    def __init__(self, family: Family, options: ModelOptions) -> None:
        self.family, self.options, self.parts = family, options, family.parts
        self.stage = Stage(family.parts, family.roles, options)
        self.prompts = Prompts(self.stage)
        self.fingerprint = self.stage.fingerprint()
        self._schedules: dict[tuple[int, ...], Schedule] = {}

    @property
    def variant(self) -> str:
        """Name what a sample depends on beside the fingerprint."""
        return self.stage.variant()

    @property
    def info(self) -> ModalityInfo:
        """Describe the modality."""
        info = self.family.info
        return info if self.options.pooled else replace(info, pooled_dim=0)

    @property
    def parameters(self) -> int:
        """Return how many weights the model has, read from its files."""
        return self.stage.parameters()

    @property
    def memory(self) -> tuple[str, ...]:
        """Return lines on the memory that each part will take and where, from the sizes of the files."""
        return self.stage.memory()

    def to(self, device: torch.device) -> None:
        """Choose the device that parts go to when they are first needed."""
        self.stage.to(device)

    def release(self, parts: Sequence[str]) -> None:
        """Free the codec or the text encoders, until they are needed again."""
        self.prompts.release(parts)

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes that the model will really produce for a request."""
        return self.family.plan(request)

    def grid(self, steps: int, plan: ModalityPlan) -> Levels:
        """Return the levels (steps + 1,) of the pipeline's own scheduler."""
        return self._schedule(plan).grid(steps)

    def levels_at(self, u: Tensor, plan: ModalityPlan) -> Levels:
        """Return the levels (B,) at progress u (B,)."""
        return self._schedule(plan).levels_at(u)

    def encode_prompt(self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: ModalityPlan) -> Condition:
        """Return the condition of a batch of prompts; each is encoded once, by itself, whatever its batch."""

        def encode(text: str, other: str | None, device: torch.device) -> tuple[Row, Row]:
            return self.family.text(text, other, plan, device)

        wanted, unwanted = self.prompts.encoded(prompts, negatives, plan.seconds, encode)
        if not self.options.pooled:
            return Condition(wanted, unwanted)
        vectors = self.prompts.pooled(prompts, negatives, plan.seconds, encode, self.family.pooled)
        return Condition(wanted, unwanted, *vectors)

    def unread(self, prompts: Sequence[str]) -> list[Unread | None]:
        """Return for each prompt what the text encoder that reads least leaves out of it, None where nothing."""
        return unread(self.parts, prompts, self.family.limits)

    @torch.no_grad()
    def predict(self, x: Tensor, t: Tensor, condition: Payload, plan: ModalityPlan) -> Tensor:
        """Return the native output for x (B, ...) at native times t (B,); condition None: an empty prompt."""
        self.stage.settle()
        if not isinstance(condition, Mapping):
            condition = repeated(self.encode_prompt([""], None, plan).positive, len(x))
        there, dtype = self.stage.at("denoiser"), self.parts.dtype(self.family.roles.denoiser[0])
        out = self.family.predict(x.to(there, dtype), t.to(there), cast(condition, there, dtype), plan)
        return out.to(x.device).float()

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the latents (B, *latent_shape) of media (B, *media_shape)."""
        return self.stage.through_codec(lambda chunk: self.family.encode(chunk, plan), media)

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the media (B, *media_shape) of latents (B, *latent_shape), chunk by chunk."""
        return self.stage.through_codec(lambda chunk: self.family.decode(chunk, plan).float().clamp(-1, 1), latent)

    def _schedule(self, plan: ModalityPlan) -> Schedule:
        shape = plan.latent_shape
        if shape not in self._schedules:
            own = self.family.schedule(plan)
            self._schedules[shape] = ended_clean(own) if self.options.clean_end else own
        return self._schedules[shape]
