"""Small backbones for tests of the core: one modality, or two at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import (
    BackboneInfo,
    Base,
    Condition,
    JointBackbone,
    ModalityInfo,
    ModalityPlan,
    Payload,
    Plan,
    Request,
    State,
    as_joint,
)
from mmdisco_cli.diffusion.prediction import PredictionType
from mmdisco_cli.diffusion.schedules import Levels, Schedule, make_schedule


def strength(condition: Payload) -> Tensor | float:
    """Return what a toy condition says, (B, 1) or 0."""
    if isinstance(condition, Mapping):
        return condition["c"]
    return 0.0 if condition is None else condition


@dataclass
class Toy:
    """A one-modality model: its native output is tanh(x + t) plus its condition."""

    modality: str = "audio"
    prediction: PredictionType = "v"
    schedule: Schedule = field(default_factory=lambda: make_schedule("cosine"))
    fingerprint: str = "toy"
    batches: list[int] = field(default_factory=list)

    @property
    def info(self) -> ModalityInfo:
        return ModalityInfo(self.modality, self.prediction, 3, 10.0, cfg_scale=2.0)

    def plan(self, request: Request) -> ModalityPlan:
        return ModalityPlan((3,), (6,), 10.0, request.seconds or 1.0, ("seconds snapped",))

    def grid(self, steps: int, plan: ModalityPlan) -> Levels:
        return self.schedule.grid(steps)

    def levels_at(self, u: Tensor, plan: ModalityPlan) -> Levels:
        return self.schedule.levels_at(u)

    def encode_prompt(self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: ModalityPlan) -> Condition:
        return Condition(*(torch.tensor([[float(len(p))] for p in texts or prompts]) for texts in (prompts, negatives)))

    def predict(self, x: Tensor, t: Tensor, condition: Payload, plan: ModalityPlan) -> Tensor:
        assert t.shape == x.shape[:1]
        assert not torch.is_grad_enabled()
        self.batches.append(len(x))
        return torch.tanh(x + t[:, None]) + strength(condition)

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        return media[:, :3]

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        return torch.cat([latent, latent], 1)


@dataclass
class ToyPair:
    """A model of two modalities that look at one another."""

    @property
    def info(self) -> BackboneInfo:
        return BackboneInfo(tuple(ModalityInfo(m, "epsilon", 3, None) for m in ("audio", "video")), "pair")

    def plan(self, request: Request) -> Plan:
        return Plan({m: ModalityPlan((3,), (3,), None, 1.0) for m in ("audio", "video")})

    def grid(self, steps: int, plan: Plan) -> dict[str, Levels]:
        return {"audio": make_schedule("vp-linear").grid(steps), "video": make_schedule("vp-cosine").grid(steps)}

    def levels_at(self, u: Tensor, plan: Plan) -> dict[str, Levels]:
        return {"audio": make_schedule("vp-linear").levels_at(u), "video": make_schedule("vp-cosine").levels_at(u)}

    def encode_prompt(
        self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: Plan
    ) -> dict[str, Condition]:
        return {}

    def predict(
        self, x: Mapping[str, Tensor], t: Mapping[str, Tensor], condition: Mapping[str, Payload], plan: Plan
    ) -> State:
        added = strength(condition["audio"])
        return {"audio": torch.tanh(x["video"]) + added, "video": torch.tanh(x["audio"]) + added}

    def encode(self, media: Mapping[str, Tensor], plan: Plan) -> State:
        return dict(media)

    def decode(self, latent: Mapping[str, Tensor], plan: Plan) -> State:
        return dict(latent)


def base_of(backbone: Toy, condition: Condition | None = None) -> Base:
    joint: JointBackbone = as_joint(backbone)
    return Base(joint, joint.plan(Request()), {backbone.modality: condition} if condition else {})
