"""Models that are not evaluated, for measuring what the rest of a training step takes: neither loaded nor run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.diffusion.backbone import BackboneInfo, Condition, JointBackbone, Payload, Plan, State
from mmdisco_cli.diffusion.schedules import Levels


@dataclass(frozen=True)
class _Unevaluated:
    """What a training step calls of a `JointBackbone`; predictions and conditions are zeros."""

    backbone: JointBackbone
    device: torch.device

    @property
    def info(self) -> BackboneInfo:
        return self.backbone.info

    def levels_at(self, u: Tensor, plan: Plan) -> dict[str, Levels]:
        return self.backbone.levels_at(u, plan)

    def encode_prompt(
        self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: Plan
    ) -> dict[str, Condition]:
        widths = {info.modality: info.pooled_dim for info in self.info.modalities}
        pooled = {m: torch.zeros(len(prompts), width, device=self.device) for m, width in widths.items() if width}
        return {m: Condition(None, pooled=zeros) for m, zeros in pooled.items()}

    def predict(
        self, x: Mapping[str, Tensor], t: Mapping[str, Tensor], condition: Mapping[str, Payload], plan: Plan
    ) -> State:
        return {info.modality: torch.zeros_like(x[info.modality]) for info in self.info.modalities}


def unevaluated(assembly: Assembly) -> Assembly:
    """Return the models with their shapes and noise levels, whose predictions are zeros."""
    return replace(
        assembly,
        models={
            label: replace(base, backbone=cast(JointBackbone, _Unevaluated(base.backbone, assembly.device)))
            for label, base in assembly.models.items()
        },
    )
