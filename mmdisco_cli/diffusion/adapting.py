"""How mmdisco uses a base model: every `Backbone` as a `JointBackbone`, and each optional member through a function."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor

from mmdisco_cli.diffusion.contract import (
    Backbone,
    BackboneInfo,
    Condition,
    FromText,
    JointBackbone,
    Keyed,
    LimitedText,
    ModalityInfo,
    Movable,
    OwnGuidance,
    Payload,
    Plan,
    Releasing,
    Request,
    State,
    ToText,
    Unread,
)
from mmdisco_cli.diffusion.schedules import Levels
from mmdisco_cli.errors import DeviceError


@dataclass(frozen=True)
class Base:
    """One base model in a run: with the shapes planned for it, and the condition of each of its modalities."""

    backbone: JointBackbone
    plan: Plan
    conditions: Mapping[str, Condition] = field(default_factory=dict)

    @property
    def modalities(self) -> dict[str, ModalityInfo]:
        """Return the description of each modality by its name."""
        return {info.modality: info for info in self.backbone.info.modalities}


@dataclass(frozen=True)
class _OneModality:
    """A `JointBackbone` of one modality, around a `Backbone`."""

    wrapped: Backbone

    @property
    def name(self) -> str:
        return self.wrapped.info.modality

    @property
    def info(self) -> BackboneInfo:
        return BackboneInfo((self.wrapped.info,), self.wrapped.fingerprint, getattr(self.wrapped, "variant", ""))

    def plan(self, request: Request) -> Plan:
        plan = self.wrapped.plan(request)
        return Plan({self.name: plan}, plan.notes)

    def grid(self, steps: int, plan: Plan) -> dict[str, Levels]:
        return {self.name: self.wrapped.grid(steps, plan.modalities[self.name])}

    def levels_at(self, u: Tensor, plan: Plan) -> dict[str, Levels]:
        return {self.name: self.wrapped.levels_at(u, plan.modalities[self.name])}

    def encode_prompt(
        self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: Plan
    ) -> dict[str, Condition]:
        return {self.name: self.wrapped.encode_prompt(prompts, negatives, plan.modalities[self.name])}

    def predict(
        self, x: Mapping[str, Tensor], t: Mapping[str, Tensor], condition: Mapping[str, Payload], plan: Plan
    ) -> State:
        name = self.name
        return {name: self.wrapped.predict(x[name], t[name], condition.get(name), plan.modalities[name])}

    def guided(
        self,
        x: Mapping[str, Tensor],
        t: Mapping[str, Tensor],
        positive: Mapping[str, Payload],
        negative: Mapping[str, Payload],
        scales: Mapping[str, float],
        plan: Plan,
    ) -> State:
        m, model = self.name, cast(Any, self.wrapped)
        return {m: model.guided(x[m], t[m], positive[m], negative[m], scales[m], plan.modalities[m])}

    def encode(self, media: Mapping[str, Tensor], plan: Plan) -> State:
        return {self.name: self.wrapped.encode(media[self.name], plan.modalities[self.name])}

    def decode(self, latent: Mapping[str, Tensor], plan: Plan) -> State:
        return {self.name: self.wrapped.decode(latent[self.name], plan.modalities[self.name])}

    def to_text(self, media: Mapping[str, Tensor], plan: Plan) -> Mapping[str, Sequence[str]]:
        m, model = self.name, cast(Any, self.wrapped)
        return {m: model.to_text(media[m], plan.modalities[m])}

    def from_text(self, texts: Mapping[str, Sequence[str]], plan: Plan) -> State:
        m, model = self.name, cast(Any, self.wrapped)
        return {m: model.from_text(texts[m], plan.modalities[m])}


def as_joint(backbone: Backbone | JointBackbone) -> JointBackbone:
    """Return the backbone as a `JointBackbone`; one that is one already is returned unchanged."""
    # The type of `info` distinguishes the two contracts: a class check would force authors to inherit.
    if isinstance(backbone.info, BackboneInfo):
        return backbone
    return _OneModality(backbone)


def unwrap(backbone: JointBackbone) -> Any:
    """Return a backbone as its author wrote it, with its optional members: what `as_joint` was given."""
    return backbone.wrapped if isinstance(backbone, _OneModality) else backbone


def move(backbone: JointBackbone, device: torch.device) -> None:
    """Move a backbone through its optional member `to`; raise DeviceError where it has none, except for the CPU."""
    model = unwrap(backbone)
    if isinstance(model, Movable):
        model.to(device)
    elif device.type != "cpu":
        names = " and ".join(info.modality for info in backbone.info.modalities)
        raise DeviceError(f"the backbone of {names} runs on the CPU only, not on {device}: it has no to(device)")


def keyed(backbone: JointBackbone, keys: Tensor) -> JointBackbone:
    """Return a backbone whose random numbers depend on the samples' keys (B,); others are returned unchanged."""
    model = unwrap(backbone)
    return as_joint(model.keyed(keys)) if isinstance(model, Keyed) else backbone


def own_guidance(base: Base) -> OwnGuidance | None:
    """Return a model's own guidance, with mappings from modality; None where the model has CFG only."""
    # The wrapped model is checked too: the wrapper itself always has the member.
    joint = base.backbone
    return joint if isinstance(joint, OwnGuidance) and isinstance(unwrap(joint), OwnGuidance) else None


def text_decoder(backbone: JointBackbone) -> ToText | None:
    """Return a function from media of kind text to strings, with mappings; None where a backbone has none."""
    return backbone if isinstance(backbone, ToText) and isinstance(unwrap(backbone), ToText) else None


def text_encoder(backbone: JointBackbone) -> FromText | None:
    """Return a function from strings to media of kind text, with mappings; None where a backbone has none."""
    return backbone if isinstance(backbone, FromText) and isinstance(unwrap(backbone), FromText) else None


def count_parameters(backbone: JointBackbone) -> int | None:
    """Return the number of a backbone's weights, by its member `module` or `parameters`; None where it has neither."""
    model = unwrap(backbone)
    module, number = getattr(model, "module", None), getattr(model, "parameters", None)
    if isinstance(module, torch.nn.Module):
        return sum(p.numel() for p in module.parameters())
    return number if isinstance(number, int) else None


def prediction_operations(base: Base) -> int | None:
    """Return the floating-point operations of predicting one sample, by a model's member `operations`; None without."""
    model = unwrap(base.backbone)
    own = getattr(model, "operations", None)
    if own is None:
        return None
    wrapped = isinstance(base.backbone, _OneModality)
    return int(own(next(iter(base.plan.modalities.values())) if wrapped else base.plan))


def takes_prompts(backbone: JointBackbone) -> bool:
    """Return whether prompts condition a backbone, by its optional member `takes_prompts`."""
    model = unwrap(backbone)
    return bool(getattr(model, "takes_prompts", False))


def unread(backbone: JointBackbone, prompts: Sequence[str]) -> Sequence[Unread | None]:
    """Return for each prompt what a backbone's text encoders leave out of it, by its optional member `unread`."""
    model = unwrap(backbone)
    return model.unread(prompts) if isinstance(model, LimitedText) else [None] * len(prompts)


def release(backbone: JointBackbone, parts: Sequence[str]) -> None:
    """Free parts of a backbone, `codec` or `text`, through its optional member `release`; others keep them."""
    model = unwrap(backbone)
    if isinstance(model, Releasing):
        model.release(parts)


def pads_with_zeros(backbone: JointBackbone) -> bool:
    """Return whether prompts encoded alone can be put together, by a backbone's optional member `pads_with_zeros`."""
    return bool(getattr(unwrap(backbone), "pads_with_zeros", False))


def memory_lines(backbone: JointBackbone) -> tuple[str, ...]:
    """Return a backbone's own lines about the memory it will take, its optional member `memory`."""
    model = unwrap(backbone)
    return tuple(getattr(model, "memory", ()))
