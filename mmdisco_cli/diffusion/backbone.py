"""The contract between the core and a pre-trained base model.

Layouts everywhere: channel 1, time 2. Audio media (B, channels, samples), video media (B, 3, T, H, W), both in [-1, 1].
The author of a one-modality model writes a `Backbone` and never sees a mapping; a model of several modalities is a
`JointBackbone`; the core only ever uses the latter, through `as_joint`.

Some members are optional, on either contract: `to(device)` moves the model, which without it is used on the CPU
alone; `module`, a torch module of all its weights, lets a run count them, or `parameters`, their number, where they
are loaded later; `memory`, lines of text, says what will lie where; `variant`, of one modality, is that of
`BackboneInfo`; `takes_prompts`, true where prompts steer it, spares a plan the encoding of one; `keyed(keys)` is for a
model that draws at random while it predicts or decodes, so that what it draws depends on the sample alone; `guided`
for one whose makers guide it by more than CFG; and `run_whole` for one that can only be run, see `whole`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from mmdisco_cli.diffusion.prediction import PredictionType
from mmdisco_cli.diffusion.schedules import Levels
from mmdisco_cli.errors import DeviceError

UNTRAINED = "untrained"
"""The fingerprint of a model that has no weights yet: it can be trained, and not sampled."""
State = dict[str, Tensor]
# What a model is conditioned on, batch first, so that the core can stack the two halves of classifier-free guidance.
Payload = Tensor | Mapping[str, Tensor] | None


@dataclass(frozen=True)
class ModalityInfo:
    """Describe one modality of a model; `rate` is its sample or frame rate in Hz, None where it has no time."""

    modality: str
    prediction: PredictionType
    latent_channels: int
    rate: float | None
    pooled_dim: int = 0
    cfg_scale: float = 1.0


@dataclass(frozen=True)
class BackboneInfo:
    """Describe a model of one or more modalities; the fingerprint changes whenever its predictions may.

    `variant` names whatever else its samples depend on, such as a decoder that another one can take the place of.
    """

    modalities: tuple[ModalityInfo, ...]
    fingerprint: str
    variant: str = ""


@dataclass(frozen=True)
class Request:
    """Hold what a recipe asks for, None where the model may choose; seconds, frames per second and pixels."""

    seconds: float | None = None
    frames: int | None = None
    fps: float | None = None
    height: int | None = None
    width: int | None = None


@dataclass(frozen=True)
class ModalityPlan:
    """Hold what a model will really make of a request: shapes without batch, rate in Hz, and what had to be snapped."""

    latent_shape: tuple[int, ...]
    media_shape: tuple[int, ...]
    rate: float | None
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Gather the plans of a model's modalities and everything they snapped."""

    modalities: Mapping[str, ModalityPlan]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Condition:
    """Hold what steers one modality: the model's positive and negative payloads, and (B, D) for the discriminator.

    With `pooled_negative` (B, D) beside it, guidance by the discriminator follows the model's CFG scale too.
    """

    positive: Payload = None
    negative: Payload = None
    pooled: Tensor | None = None
    pooled_negative: Tensor | None = None


class Backbone(Protocol):
    """A pre-trained model of one modality, as its author writes it."""

    @property
    def info(self) -> ModalityInfo:
        """Describe the modality."""

    @property
    def fingerprint(self) -> str:
        """Name the exact weights and options."""

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes that the model will really produce for a request."""

    def grid(self, steps: int, plan: ModalityPlan) -> Levels:
        """Return the levels (steps + 1,) of a sampler of this many steps, from noise to data."""

    def levels_at(self, u: Tensor, plan: ModalityPlan) -> Levels:
        """Return the levels (B,) at progress u (B,) in [0, 1]."""

    def encode_prompt(self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: ModalityPlan) -> Condition:
        """Return the condition of a batch of prompts."""

    def predict(self, x: Tensor, t: Tensor, condition: Payload, plan: ModalityPlan) -> Tensor:
        """Return the native output for x (B, ...) at native times t (B,), without CFG and without gradient."""

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the latents (B, *latent_shape) of media (B, *media_shape)."""

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the media (B, *media_shape) of latents (B, *latent_shape)."""


class JointBackbone(Protocol):
    """A pre-trained model of one or more modalities: the same members, with mappings from modality.

    `predict` is always given all of its modalities, `encode` and `decode` only those that are wanted.
    """

    @property
    def info(self) -> BackboneInfo:
        """Describe the modalities."""

    def plan(self, request: Request) -> Plan:
        """Return the shapes that the model will really produce for a request."""

    def grid(self, steps: int, plan: Plan) -> dict[str, Levels]:
        """Return each modality's levels (steps + 1,), from noise to data."""

    def levels_at(self, u: Tensor, plan: Plan) -> dict[str, Levels]:
        """Return each modality's levels (B,) at progress u (B,) in [0, 1]."""

    def encode_prompt(
        self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: Plan
    ) -> dict[str, Condition]:
        """Return each modality's condition for a batch of prompts."""

    def predict(
        self, x: Mapping[str, Tensor], t: Mapping[str, Tensor], condition: Mapping[str, Payload], plan: Plan
    ) -> State:
        """Return each modality's native output for x (B, ...) at t (B,), without CFG and without gradient."""

    def encode(self, media: Mapping[str, Tensor], plan: Plan) -> State:
        """Return each modality's latents."""

    def decode(self, latent: Mapping[str, Tensor], plan: Plan) -> State:
        """Return each modality's media."""


class BuildBackbone(Protocol):
    """What the factory of a `BackboneSpec` returns, and its `outline`."""

    def __call__(self, label: str, options: Any, request: Request, /) -> Backbone | JointBackbone:
        """Return the model that a recipe names under `label`, loaded from what its options name, on the CPU.

        `label` is the modality too, where the entry is of any one. The plan for `request` is asked for afterwards.

        Raises:
            ValueError, UsageError: the options do not go together.
            DataError: weights cannot be found or read.
        """


@runtime_checkable
class Movable(Protocol):
    """The optional member of a backbone that can live on any device."""

    def to(self, device: torch.device) -> object:
        """Move the weights; states, conditions and media come and go on that device from then on."""


@runtime_checkable
class Keyed(Protocol):
    """The optional member of a backbone that draws at random while it predicts or decodes."""

    def keyed(self, keys: Tensor) -> Any:
        """Return the same model for a batch with keys (B,): row i of any state of n * B rows has key i modulo B.

        All that it draws must follow from the key and the native time. Without keys it must draw the same each time.
        """


@runtime_checkable
class OwnGuidance(Protocol):
    """The optional member of a backbone with guidance of its own in place of the core's CFG; of one modality, plain."""

    def guided(
        self,
        x: Mapping[str, Tensor],
        t: Mapping[str, Tensor],
        positive: Mapping[str, Payload],
        negative: Mapping[str, Payload],
        scales: Mapping[str, float],
        plan: Plan,
    ) -> State:
        """Return the native output, guided at these CFG scales, for x (B, ...) at t (B,)."""


@dataclass(frozen=True)
class Base:
    """Hold one model as a run uses it: with the shapes planned for it and what steers each of its modalities."""

    backbone: JointBackbone
    plan: Plan
    conditions: Mapping[str, Condition] = field(default_factory=dict)

    @property
    def modalities(self) -> dict[str, ModalityInfo]:
        """Return the description of each modality by its name."""
        return {info.modality: info for info in self.backbone.info.modalities}


@dataclass(frozen=True)
class _OneModality:
    """Show a `Backbone` as the one-entry case of a `JointBackbone`."""

    inner: Backbone

    @property
    def name(self) -> str:
        return self.inner.info.modality

    @property
    def info(self) -> BackboneInfo:
        return BackboneInfo((self.inner.info,), self.inner.fingerprint, getattr(self.inner, "variant", ""))

    def plan(self, request: Request) -> Plan:
        plan = self.inner.plan(request)
        return Plan({self.name: plan}, plan.notes)

    def grid(self, steps: int, plan: Plan) -> dict[str, Levels]:
        return {self.name: self.inner.grid(steps, plan.modalities[self.name])}

    def levels_at(self, u: Tensor, plan: Plan) -> dict[str, Levels]:
        return {self.name: self.inner.levels_at(u, plan.modalities[self.name])}

    def encode_prompt(
        self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: Plan
    ) -> dict[str, Condition]:
        return {self.name: self.inner.encode_prompt(prompts, negatives, plan.modalities[self.name])}

    def predict(
        self, x: Mapping[str, Tensor], t: Mapping[str, Tensor], condition: Mapping[str, Payload], plan: Plan
    ) -> State:
        name = self.name
        return {name: self.inner.predict(x[name], t[name], condition.get(name), plan.modalities[name])}

    def guided(
        self,
        x: Mapping[str, Tensor],
        t: Mapping[str, Tensor],
        positive: Mapping[str, Payload],
        negative: Mapping[str, Payload],
        scales: Mapping[str, float],
        plan: Plan,
    ) -> State:
        m, model = self.name, cast(Any, self.inner)
        return {m: model.guided(x[m], t[m], positive[m], negative[m], scales[m], plan.modalities[m])}

    def encode(self, media: Mapping[str, Tensor], plan: Plan) -> State:
        return {self.name: self.inner.encode(media[self.name], plan.modalities[self.name])}

    def decode(self, latent: Mapping[str, Tensor], plan: Plan) -> State:
        return {self.name: self.inner.decode(latent[self.name], plan.modalities[self.name])}


def as_joint(backbone: Backbone | JointBackbone) -> JointBackbone:
    """Return the backbone with mappings from modality; one that has them already is returned as it is."""
    # The description tells the two contracts apart: a class check would force authors to inherit.
    if isinstance(backbone.info, BackboneInfo):
        return backbone
    return _OneModality(backbone)


def inner(backbone: JointBackbone) -> Any:
    """Return a backbone as its author wrote it, with the optional members that it may have."""
    return backbone.inner if isinstance(backbone, _OneModality) else backbone


def move(backbone: JointBackbone, device: torch.device) -> None:
    """Move a backbone through its optional member `to`; raise DeviceError where it has none and must leave the CPU."""
    model = inner(backbone)
    if isinstance(model, Movable):
        model.to(device)
    elif device.type != "cpu":
        names = " and ".join(info.modality for info in backbone.info.modalities)
        raise DeviceError(f"the backbone of {names} runs on the CPU alone, not on {device}: it has no to(device)")


def keyed(backbone: JointBackbone, keys: Tensor) -> JointBackbone:
    """Return a backbone whose draws follow the samples' keys (B,); one that never draws is returned as it is."""
    model = inner(backbone)
    return as_joint(model.keyed(keys)) if isinstance(model, Keyed) else backbone


def own_guidance(base: Base) -> OwnGuidance | None:
    """Return a model's own guidance with mappings from modality, None where CFG is all that it has."""
    # One modality's model is asked too: what shows it as a joint one has the member whatever stands behind it.
    joint = base.backbone
    return joint if isinstance(joint, OwnGuidance) and isinstance(inner(joint), OwnGuidance) else None


def count_parameters(backbone: JointBackbone) -> int | None:
    """Return how many weights a backbone has, through its member `module` or `parameters`; None where it has none."""
    model = inner(backbone)
    module, number = getattr(model, "module", None), getattr(model, "parameters", None)
    if isinstance(module, torch.nn.Module):
        return sum(p.numel() for p in module.parameters())
    return number if isinstance(number, int) else None


def takes_prompts(backbone: JointBackbone) -> bool:
    """Return whether a backbone says by its optional member `takes_prompts` that prompts steer it."""
    model = inner(backbone)
    return bool(getattr(model, "takes_prompts", False))


def memory_lines(backbone: JointBackbone) -> tuple[str, ...]:
    """Return what a backbone says of the memory it will take, through its optional member `memory`."""
    model = inner(backbone)
    return tuple(getattr(model, "memory", ()))
