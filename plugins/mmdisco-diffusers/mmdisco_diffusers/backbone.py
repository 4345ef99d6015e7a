"""What all models of diffusers share: the contract's members, prompts made once, and who is on the device when.

A family (one file each) knows its pipeline's shapes, conditions and codec; it never sees a device, a batch of prompts
or a missing condition.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from mmdisco_cli.diffusion.backbone import Condition, ModalityInfo, ModalityPlan, Payload, Request
from mmdisco_cli.diffusion.schedules import Levels, Schedule
from mmdisco_cli.errors import UsageError
from mmdisco_diffusers.levels import ended_clean
from mmdisco_diffusers.memory import memory_lines
from mmdisco_diffusers.options import ModelOptions
from mmdisco_diffusers.parts import Parts
from mmdisco_diffusers.weights_on_disk import name_weights

Row = dict[str, Tensor]
"""What one prompt becomes, without batch; sequences of unlike lengths are filled up with zeros."""


@dataclass(frozen=True)
class Roles:
    """Which parts of a pipeline do what."""

    denoiser: tuple[str, ...]
    codec: tuple[str, ...]
    text: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """Return every part with weights."""
        return (*self.denoiser, *self.codec, *self.text)


class Family(Protocol):
    """One family of pipelines, as its file writes it; all latents and media are in the contract's layouts."""

    parts: Parts
    roles: Roles
    pooled: str  # which entry of a row stands for the prompt

    @property
    def info(self) -> ModalityInfo:
        """Describe the modality, with the size of the pooled condition."""

    def schedule(self, plan: ModalityPlan) -> Schedule:
        """Return the noise levels, which may depend on the size of the latents."""

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes for a request."""

    def text(self, prompt: str, negative: str | None, plan: ModalityPlan, device: torch.device) -> tuple[Row, Row]:
        """Return what a prompt and its negative become; None is the pipeline's own default."""

    def predict(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor], plan: ModalityPlan) -> Tensor:
        """Return the native output."""

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return latents of a chunk."""

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return media of a chunk, within [-1, 1]."""


class DiffusersBackbone:
    """A family's model, after the contract of `mmdisco_cli.diffusion.backbone.Backbone`."""

    takes_prompts = True

    def __init__(self, family: Family, options: ModelOptions) -> None:
        self.family, self.options, self.parts = family, options, family.parts
        self.device = torch.device("cpu")
        self._schedules: dict[tuple[int, ...], Schedule] = {}
        self._rows: dict[tuple[str, str | None, float], tuple[Row, Row]] = {}
        self._ready: set[str] = set()
        roles = family.roles
        # Everything that a prediction or a latent depends on, but not what wakes latents to media alone.
        named = [self.parts.place(name) for name in (*roles.denoiser, "scheduler", *roles.codec[:1], *roles.text)]
        self.fingerprint = name_weights(place for place in named if place.is_dir())

    @property
    def info(self) -> ModalityInfo:
        """Describe the modality."""
        info = self.family.info
        return info if self.options.pooled else ModalityInfo(**{**vars(info), "pooled_dim": 0})

    @property
    def parameters(self) -> int:
        """Return how many weights the model has, read from its files."""
        return self.parts.count(self.family.roles.all)

    @property
    def memory(self) -> tuple[str, ...]:
        """Say what will lie where, read from the files."""
        return memory_lines(self.parts, self.family.roles, self.options)

    def to(self, device: torch.device) -> None:
        """Choose the device that parts go to when they are first needed."""
        self.device = device
        self._ready.clear()

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes that the model will really produce for a request."""
        return self.family.plan(request)

    def grid(self, steps: int, plan: ModalityPlan) -> Levels:
        """Return the levels (steps + 1,) that the pipeline's own scheduler walks."""
        return self._schedule(plan).grid(steps)

    def levels_at(self, u: Tensor, plan: ModalityPlan) -> Levels:
        """Return the levels (B,) at progress u (B,)."""
        return self._schedule(plan).levels_at(u)

    def encode_prompt(self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: ModalityPlan) -> Condition:
        """Return the condition of a batch of prompts; each is encoded once, by itself, whatever its batch."""
        others: Sequence[str | None] = negatives or [None] * len(prompts)
        pairs = [(p, n, plan.seconds) for p, n in zip(prompts, others, strict=True)]
        missing = [pair for pair in dict.fromkeys(pairs) if pair not in self._rows]
        if missing:
            with torch.no_grad(), self._visiting(self.family.roles.text, self.options.text != "keep"):
                for prompt, negative, _ in missing:
                    made = self.family.text(prompt, negative, plan, self.device)
                    self._rows[prompt, negative, plan.seconds] = _on_cpu(made[0]), _on_cpu(made[1])
            if self.options.text == "free":
                self.parts.drop(self.family.roles.text)
        rows = [self._rows[pair] for pair in pairs]
        both = _stacked([row for row, _ in rows] + [row for _, row in rows], self.device)
        wanted, unwanted = (
            {key: value[part] for key, value in both.items()} for part in (slice(len(pairs)), slice(len(pairs), None))
        )
        if not self.options.pooled:
            return Condition(wanted, unwanted)
        entry = self.family.pooled
        return Condition(wanted, unwanted, _pooled(wanted[entry]), _pooled(unwanted[entry]))

    @torch.no_grad()
    def predict(self, x: Tensor, t: Tensor, condition: Payload, plan: ModalityPlan) -> Tensor:
        """Return the native output for x (B, ...) at native times t (B,); without a condition, that of no prompt."""
        self._settle(self.family.roles.denoiser)
        if not isinstance(condition, Mapping):
            condition = _repeated(self.encode_prompt([""], None, plan).positive, len(x))
        dtype = self.parts.dtype(self.family.roles.denoiser[0])
        cast = {key: value.to(dtype) if value.is_floating_point() else value for key, value in condition.items()}
        return self.family.predict(x.to(dtype), t.to(x.device), cast, plan).float()

    @torch.no_grad()
    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the latents (B, *latent_shape) of media (B, *media_shape)."""
        with self._visiting(self.family.roles.codec, self.options.offload != "none"):
            self._prepare_codec()
            return torch.cat([self.family.encode(m.float(), plan) for m in media.split(self.options.chunk)])

    @torch.no_grad()
    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the media (B, *media_shape) of latents (B, *latent_shape), on the CPU chunk by chunk."""
        with self._visiting(self.family.roles.codec, self.options.offload != "none"):
            self._prepare_codec()
            chunks = latent.float().split(self.options.chunk)
            return torch.cat([self.family.decode(z, plan).float().clamp(-1, 1) for z in chunks])

    def _schedule(self, plan: ModalityPlan) -> Schedule:
        shape = plan.latent_shape
        if shape not in self._schedules:
            own = self.family.schedule(plan)
            self._schedules[shape] = ended_clean(own) if self.options.clean_end else own
        return self._schedules[shape]

    def _settle(self, names: tuple[str, ...]) -> None:
        """Put the denoiser where it works, once."""
        for name in names:
            if name in self._ready or not self.parts.has(name):
                continue
            part = self.parts.get(name)
            if self.options.offload == "group" and self.device.type != "cpu":
                cpu = torch.device("cpu")
                part.enable_group_offload(self.device, cpu, offload_type="block_level", num_blocks_per_group=1)
            else:
                part.to(self.device)
            self._ready.add(name)

    @contextmanager
    def _visiting(self, names: tuple[str, ...], leave: bool) -> Iterator[None]:
        """Have parts on the device for a while, or from now on."""
        modules = [part for name in names if self.parts.has(name) and hasattr(part := self.parts.get(name), "to")]
        for module in modules:
            module.to(self.device)
        try:
            yield
        finally:
            if leave and self.device.type != "cpu":
                for module in modules:
                    module.to("cpu")

    def _prepare_codec(self) -> None:
        name = self.family.roles.codec[0]
        if name in self._ready:
            return
        codec: Any = self.parts.get(name)
        for trick in ("tiling", "slicing"):
            if getattr(self.options, trick):
                if not hasattr(codec, f"enable_{trick}"):
                    raise UsageError(f"{trick}: a {type(codec).__name__} cannot do that")
                getattr(codec, f"enable_{trick}")()
        self._ready.add(name)


def _stacked(rows: Sequence[Row], device: torch.device) -> Row:
    return {key: pad_sequence([row[key] for row in rows], batch_first=True).to(device) for key in rows[0]}


def _repeated(payload: Payload, count: int) -> Row:
    rows = payload if isinstance(payload, Mapping) else {}
    return {key: value.expand(count, *value.shape[1:]) for key, value in rows.items()}


def _pooled(value: Tensor) -> Tensor:
    """Return a sequence's mean over its tokens, a vector as it is."""
    return value.float() if value.ndim == 2 else value.float().mean(1)


def _on_cpu(row: Row) -> Row:
    return {key: value.cpu() for key, value in row.items()}
