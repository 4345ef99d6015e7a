"""Any noise prediction of audio and video as one joint backbone, in the caller's order of axes and whole times."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mmdisco_cli.diffusion.backbone import BackboneInfo, Condition, ModalityInfo, Payload, Plan, Request, State
from mmdisco_cli.diffusion.schedules import Levels

Epsilon = Callable[[State, Mapping[str, Tensor]], Mapping[str, Tensor]]
"""(states (B, ...), whole training times (B,)) -> noise predictions, guided by CFG already, each by modality."""
DRAW_ORDER = ("audio", "video")
"""The modalities in the order in which the authors' code draws noise."""


@dataclass(frozen=True)
class EpsilonBackbone:
    """A `JointBackbone` of audio and video around one function; it has no media, no prompts and no grid of its own.

    `axes` gives, by modality, the function's order of axes as a permutation of ours (B, C, T, ...).
    """

    epsilon: Epsilon
    axes: Mapping[str, Sequence[int]]

    no_plan: ClassVar[Plan] = Plan({})

    @property
    def info(self) -> BackboneInfo:
        """Describe both modalities as noise predictions."""
        return BackboneInfo(tuple(ModalityInfo(m, "epsilon", 0, None) for m in DRAW_ORDER), "epsilon")

    def predict(
        self, x: Mapping[str, Tensor], t: Mapping[str, Tensor], condition: Mapping[str, Payload], plan: Plan
    ) -> State:
        """Return the function's predictions (B, C, T, ...) for x (B, C, T, ...) at times t (B,)."""
        states = {m: to_callers_axes(s, self.axes.get(m)) for m, s in x.items()}
        with torch.no_grad():
            found = self.epsilon(states, {m: s.long() for m, s in t.items()})
        return {m: from_callers_axes(found[m], self.axes.get(m)) for m in x}

    def guided(
        self,
        x: Mapping[str, Tensor],
        t: Mapping[str, Tensor],
        positive: Mapping[str, Payload],
        negative: Mapping[str, Payload],
        scales: Mapping[str, float],
        plan: Plan,
    ) -> State:
        """Return the same predictions: classifier-free guidance is the function's own."""
        return self.predict(x, t, positive, plan)

    def plan(self, request: Request) -> Plan:
        """Return no shapes: states have those of the noise that sampling starts from."""
        return self.no_plan

    def grid(self, steps: int, plan: Plan) -> dict[str, Levels]:
        """Raise: the caller brings the grid."""
        raise NotImplementedError("a noise prediction has no grid of its own")

    def levels_at(self, u: Tensor, plan: Plan) -> dict[str, Levels]:
        """Raise: the caller brings the grid."""
        raise NotImplementedError("a noise prediction has no levels of its own")

    def encode_prompt(
        self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: Plan
    ) -> dict[str, Condition]:
        """Raise: the caller brings the conditions."""
        raise NotImplementedError("a noise prediction encodes no prompts")

    def encode(self, media: Mapping[str, Tensor], plan: Plan) -> State:
        """Return the media as they are: there is no codec."""
        return dict(media)

    def decode(self, latent: Mapping[str, Tensor], plan: Plan) -> State:
        """Return the latents as they are: there is no codec."""
        return dict(latent)


def from_callers_axes(x: Tensor, order: Sequence[int] | None) -> Tensor:
    """Return a state as (B, C, T, ...), from one permuted by `order`; None permutes nothing."""
    return x if order is None else x.permute([list(order).index(axis) for axis in range(x.ndim)]).contiguous()


def to_callers_axes(x: Tensor, order: Sequence[int] | None) -> Tensor:
    """Return a state (B, C, T, ...) permuted by `order`; None permutes nothing."""
    return x if order is None else x.permute(*order).contiguous()
