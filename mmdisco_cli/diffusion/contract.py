"""The contract between mmdisco and a pre-trained base model: what the author of a plugin reads.

The author of a one-modality model writes a `Backbone`, whose members take and give tensors; a model of several
modalities is a `JointBackbone`, whose members take and give mappings from modality. Layouts everywhere: channel 1,
time 2.

A modality is named by a label, which is free, and has a kind, which says how it is shown and in which files its
samples are stored. Media of each kind, of which a plugin may add further ones (`mmdisco_cli.hookspecs.KindSpec`):

    audio    (B, channels, samples) in [-1, 1], at `rate` Hz
    video    (B, 3, T, H, W) in [-1, 1], at `rate` frames a second
    image    (B, 1 or 3, H, W) in [-1, 1]
    text     of any shape: tokens or embeddings, which the member `to_text` turns into strings
    vector   of any shape and range

Optional members, on either contract:

    to(device)          move the weights; a model without it runs on the CPU only (`Movable`)
    module              a torch.nn.Module with all weights, so that a run can count them
    parameters          the number of weights, where they are loaded later
    memory              lines of text: what will occupy which memory
    operations(plan)    floating-point operations of predicting one sample (`mmdisco_cli.diffusion.operations`)
    variant             of a `Backbone`: what samples depend on besides the fingerprint (`BackboneInfo`)
    unread(prompts)     for a model whose text encoders read a limited number of tokens (`LimitedText`)
    takes_prompts       true where prompts condition the model, so that planning need not encode one to find out
    keyed(keys)         for a model that draws random numbers while it predicts or decodes (`Keyed`)
    guided(...)         for a model whose authors use more than classifier-free guidance (`OwnGuidance`)
    run_whole(...)      for a model that can only be run from noise to media (`mmdisco_cli.diffusion.whole`)
    to_text(...)        of a modality of kind text, which needs it: strings from media (`ToText`)
    from_text(...)      of a modality of kind text: media from strings, so that a text can be given (`FromText`)
    pads_with_zeros     true where the conditions of prompts in a batch are those of each alone, their second axis (of
                        tokens) padded with zeros at its end, so that prompts encoded alone can be put together
    release(parts)      free parts that training no longer needs (`Releasing`)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from mmdisco_cli.diffusion.prediction import PredictionType
from mmdisco_cli.diffusion.schedules import Levels

UNTRAINED = "untrained"
"""The fingerprint of a model without trained weights: it can be trained but not sampled."""
State = dict[str, Tensor]
# What a model is conditioned on, batch first, so that the two halves of classifier-free guidance can be concatenated.
Payload = Tensor | Mapping[str, Tensor] | None
AUDIO, VIDEO, IMAGE, TEXT, VECTOR = "audio", "video", "image", "text", "vector"
KINDS = (AUDIO, VIDEO, IMAGE, TEXT, VECTOR)
"""The kinds of modalities that mmdisco knows without a plugin."""


@dataclass(frozen=True)
class ModalityInfo:
    """One modality of a model.

    `prediction` says what `predict` returns for x = alpha * x_0 + sigma * epsilon: "epsilon"; "sample", x_0; "v",
    alpha * epsilon - sigma * x_0; "flow", epsilon - x_0; or "flow_reversed", x_0 - epsilon. `rate` is its sample or
    frame rate in Hz, None where it has no time axis; `pooled_dim` is the size of the pooled condition for a
    discriminator, 0 where there is none; `cfg_scale` is the model's default scale of classifier-free guidance. `kind`
    is one of `KINDS` or a plugin's own; where it is left empty it becomes `modality` itself, if that is one of
    `KINDS`, and else `vector`.
    """

    modality: str
    prediction: PredictionType
    latent_channels: int
    rate: float | None
    pooled_dim: int = 0
    cfg_scale: float = 1.0
    kind: str = ""

    def __post_init__(self) -> None:
        """Fill in the kind."""
        own = self.kind or (self.modality if self.modality in KINDS else VECTOR)
        object.__setattr__(self, "kind", own)


@dataclass(frozen=True)
class BackboneInfo:
    """A model of one or more modalities; the fingerprint changes whenever its predictions may.

    `variant` names whatever else its samples depend on, such as an exchangeable decoder.
    """

    modalities: tuple[ModalityInfo, ...]
    fingerprint: str
    variant: str = ""


@dataclass(frozen=True)
class Request:
    """What a recipe requests, None where the model may choose: seconds, frames, frames per second, pixels."""

    seconds: float | None = None
    frames: int | None = None
    fps: float | None = None
    height: int | None = None
    width: int | None = None


@dataclass(frozen=True)
class ModalityPlan:
    """What a model will actually produce for a request.

    Shapes are without batch, `rate` is in Hz, and `notes` say in a line each which requested value was changed to one
    that the model can make.
    """

    latent_shape: tuple[int, ...]
    media_shape: tuple[int, ...]
    rate: float | None
    seconds: float
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The plans of all of a model's modalities, and their notes."""

    modalities: Mapping[str, ModalityPlan]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Condition:
    """What one modality is conditioned on.

    `positive` and `negative` go to the model, the two halves of classifier-free guidance; `pooled` (B, D) goes to the
    discriminator. With `pooled_negative` (B, D) too, the discriminator's gradient follows the model's CFG scale.
    """

    positive: Payload = None
    negative: Payload = None
    pooled: Tensor | None = None
    pooled_negative: Tensor | None = None


class Backbone(Protocol):
    """A pre-trained model of one modality, as its author writes it."""

    @property
    def info(self) -> ModalityInfo:
        """Return the description of the modality."""

    @property
    def fingerprint(self) -> str:
        """Return a text that changes whenever the weights or options that predictions depend on change."""

    def plan(self, request: Request) -> ModalityPlan:
        """Return the shapes that the model will actually produce for a request."""

    def grid(self, steps: int, plan: ModalityPlan) -> Levels:
        """Return the levels (steps + 1,) of a sampler of this many steps, from noise to data."""

    def levels_at(self, u: Tensor, plan: ModalityPlan) -> Levels:
        """Return the levels (B,) at progress u (B,) from 0, data, to 1, noise; their t are times as `predict` takes."""

    def encode_prompt(self, prompts: Sequence[str], negatives: Sequence[str] | None, plan: ModalityPlan) -> Condition:
        """Return the condition of a batch of prompts."""

    def predict(self, x: Tensor, t: Tensor, condition: Payload, plan: ModalityPlan) -> Tensor:
        """Return the native output for x (B, ...) at native times t (B,), without CFG and without gradient."""

    def encode(self, media: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the latents (B, *latent_shape) of media (B, *media_shape)."""

    def decode(self, latent: Tensor, plan: ModalityPlan) -> Tensor:
        """Return the media (B, *media_shape) of latents (B, *latent_shape)."""


class JointBackbone(Protocol):
    """A pre-trained model of one or more modalities: the members of `Backbone`, with mappings from modality.

    `predict` always gets all modalities of the model, `encode` and `decode` any of them.
    """

    @property
    def info(self) -> BackboneInfo:
        """Return the description of the modalities and the fingerprint of the whole model."""

    def plan(self, request: Request) -> Plan:
        """Return the shapes that the model will actually produce for a request."""

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
        """Return each native output for x (B, ...) at native times t (B,), without CFG and without gradient."""

    def encode(self, media: Mapping[str, Tensor], plan: Plan) -> State:
        """Return the latents (B, *latent_shape) of media (B, *media_shape), by modality."""

    def decode(self, latent: Mapping[str, Tensor], plan: Plan) -> State:
        """Return the media (B, *media_shape) of latents (B, *latent_shape), by modality."""


class BuildBackbone(Protocol):
    """What the factory of a `BackboneSpec` returns, and its `outline`."""

    def __call__(self, label: str, options: Any, request: Request, /) -> Backbone | JointBackbone:
        """Return the model that a recipe names under `label`, loaded from what its options name, on the CPU.

        `label` is also the modality, where the entry serves any modality. `plan(request)` is called afterwards.

        Raises:
            ValueError, UsageError: the options do not go together.
            DataError: weights cannot be found or read.
        """


@runtime_checkable
class Movable(Protocol):
    """Optional member: the model can be moved to any device."""

    def to(self, device: torch.device) -> object:
        """Move the weights; from then on states, conditions and media are passed and returned on that device."""


@runtime_checkable
class Keyed(Protocol):
    """Optional member: the model draws random numbers while it predicts or decodes."""

    def keyed(self, keys: Tensor) -> Any:
        """Return the same model for a batch with keys (B,): row i of any state of n * B rows has key i modulo B.

        Its random numbers must depend on key and native time only. Without keys it must draw the same each time.
        """


@dataclass(frozen=True)
class Unread:
    """The end `text` of a prompt that a text encoder does not read, because it takes at most `tokens` of it."""

    tokens: int
    text: str


@runtime_checkable
class LimitedText(Protocol):
    """Optional member: the model's text encoders read a limited number of tokens."""

    def unread(self, prompts: Sequence[str]) -> Sequence[Unread | None]:
        """Return for each prompt the end that its most limited encoder does not read, None for none; encodes nothing.

        The model does not warn of these any more when it encodes them.
        """


@runtime_checkable
class OwnGuidance(Protocol):
    """Optional member: the model has guidance of its own in place of CFG; a `Backbone` takes tensors, not mappings."""

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


@runtime_checkable
class ToText(Protocol):
    """Optional member that the kind `text` needs; a `Backbone` takes a tensor and gives a sequence, not mappings."""

    def to_text(self, media: Mapping[str, Tensor], plan: Plan) -> Mapping[str, Sequence[str]]:
        """Return the strings of media (B, *media_shape), one for each sample, of each modality of kind text given."""


@runtime_checkable
class FromText(Protocol):
    """Optional member: strings become media of the kind `text`; a `Backbone` takes a sequence and gives a tensor."""

    def from_text(self, texts: Mapping[str, Sequence[str]], plan: Plan) -> State:
        """Return media (B, *media_shape) of B strings of each modality given; `to_text` gives them back.

        Raises:
            ValueError: the model cannot represent a string; the message says which ones it can.
        """


@runtime_checkable
class Releasing(Protocol):
    """Optional member: the model can free the memory of parts that only prepare what it is trained beside."""

    def release(self, parts: Sequence[str], /) -> object:
        """Free `codec` (what encodes and decodes media), `text` (what encodes prompts), or both.

        `predict` must keep working. A later use of a freed part loads it again, or raises an error that says so.
        """
