"""The models of a recipe as a run uses them, all together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from mmdisco_cli.diffusion.backbone import (
    TEXT,
    Base,
    Condition,
    ModalityInfo,
    ModalityPlan,
    State,
    keyed,
    takes_prompts,
    text_decoder,
    text_encoder,
)
from mmdisco_cli.diffusion.coupling import Coupling
from mmdisco_cli.diffusion.noise import sample_keys
from mmdisco_cli.diffusion.whole import runs_whole
from mmdisco_cli.errors import UsageError

Prompts = Sequence[str] | Mapping[str, Sequence[str]]
"""One prompt for each sample, for all modalities or by modality."""


@dataclass(frozen=True)
class LoadedDiscriminator:
    """A trained discriminator, the description in its file (`about`), and the fingerprint of that file."""

    module: nn.Module
    about: Mapping[str, Any]
    path: Path
    fingerprint: str

    @property
    def trained_with_given(self) -> bool:
        """Return whether it was trained on pairs with one modality almost clean, as given modalities are."""
        return float(self.about.get("given_fraction", 0)) > 0

    @property
    def knows_texts(self) -> bool:
        """Return whether it was trained under the texts of its clips, by mmdisco or by the authors of a release."""
        return bool(self.about.get("captions")) or "released" in self.about

    @property
    def knows_no_text(self) -> bool:
        """Return whether it knows the empty text, which samples without a prompt and CFG give it."""
        return not self.about.get("captions") or float(self.about.get("text_dropout", 0)) > 0


@dataclass(frozen=True)
class Assembly:
    """Backbones with their plans and conditions, by the recipe's labels, and the discriminator, if any."""

    models: Mapping[str, Base]
    coupling: Coupling
    device: torch.device
    dtype: torch.dtype = torch.float32
    discriminator: LoadedDiscriminator | None = None

    @property
    def bases(self) -> list[Base]:
        """Return the models in the order of the recipe."""
        return list(self.models.values())

    @property
    def modalities(self) -> dict[str, ModalityPlan]:
        """Return the plan of every modality, in the order of the recipe."""
        return {m: plan for base in self.bases for m, plan in base.plan.modalities.items()}

    @property
    def infos(self) -> dict[str, ModalityInfo]:
        """Return the description of every modality, in the order of the recipe."""
        return {m: info for base in self.bases for m, info in base.modalities.items()}

    @property
    def kinds(self) -> dict[str, str]:
        """Return the kind of every modality, in the order of the recipe."""
        return {m: info.kind for m, info in self.infos.items()}

    @property
    def speaking(self) -> tuple[str, ...]:
        """Return the modalities of kind text whose backbones make strings of their media."""
        able = [base for base in self.bases if text_decoder(base.backbone) is not None]
        return tuple(m for base in able for m, info in base.modalities.items() if info.kind == TEXT)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the latent shape of every modality, without batch."""
        return {m: plan.latent_shape for m, plan in self.modalities.items()}

    @property
    def pooled(self) -> dict[str, int]:
        """Return the size of every modality's pooled condition, 0 where it has none."""
        return {m: info.pooled_dim for m, info in self.infos.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """Return a line for each requested value that a backbone changed to one that it can make."""
        return tuple(note for base in self.bases for note in base.plan.notes)

    @property
    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of every backbone's weights, by label; a discriminator's file must hold the same."""
        return {label: base.backbone.info.fingerprint for label, base in self.models.items()}

    @property
    def variants(self) -> dict[str, str]:
        """Return what else samples depend on, by label, for the backbones that name it."""
        found = {label: base.backbone.info.variant for label, base in self.models.items()}
        return {label: variant for label, variant in found.items() if variant}

    @property
    def prompt_backbones(self) -> str:
        """Name the backbones whose pooled prompts are input of a discriminator, empty where there are none."""
        pooled = [m for m, base in self.models.items() if any(i.pooled_dim for i in base.modalities.values())]
        return " and ".join(f"backbones.{label}" for label in pooled)

    @property
    def pooled_without_text(self) -> dict[str, Tensor]:
        """Return what the empty text is to a discriminator (1, D), by each modality that has pooled conditions."""
        bases = self.conditioned([""]).bases if self.prompt_backbones else []
        return {m: c.pooled for base in bases for m, c in base.conditions.items() if c.pooled is not None}

    @property
    def reads_prompts(self) -> bool:
        """Return whether prompts condition any of the models; one that does not say so encodes one to find out."""
        if runs_whole(self.models) or any(takes_prompts(base.backbone) for base in self.bases):
            return True
        conditions = [c for base in self.conditioned([""]).bases for c in base.conditions.values()]
        return any(c.positive is not None or c.pooled is not None for c in conditions)

    def keyed(self, seed: int, indices: Sequence[int]) -> Self:
        """Return the same models for the samples `indices`: a model's own random numbers depend on these only."""
        models = {
            label: replace(base, backbone=keyed(base.backbone, sample_keys(seed, indices, label)))
            for label, base in self.models.items()
        }
        return replace(self, models=models)

    def conditioned(self, prompts: Prompts, negative: str = "") -> Self:
        """Return the same models conditioned on prompts, one a sample, the same for all modalities or by modality.

        `negative` is the negative prompt of CFG for all of them; empty, each takes its own default.
        """
        models = {
            label: replace(base, conditions=_conditions(base, prompts, negative)) for label, base in self.models.items()
        }
        return replace(self, models=models)

    def encode(self, media: Mapping[str, Tensor]) -> State:
        """Return the latents (B, *latent_shape) of media (B, *media_shape), of any of the modalities."""
        latents: State = {}
        for base in self.bases:
            own = {m: media[m].to(self.device) for m in base.plan.modalities if m in media}
            latents |= base.backbone.encode(own, base.plan) if own else {}
        return latents

    def decode(self, latents: Mapping[str, Tensor]) -> State:
        """Return the media (B, *media_shape) of latents (B, *latent_shape), of any of the modalities."""
        media: State = {}
        for base in self.bases:
            own = {m: latents[m] for m in base.plan.modalities if m in latents}
            media |= base.backbone.decode(own, base.plan) if own else {}
        return media

    def to_text(self, media: Mapping[str, Tensor]) -> dict[str, Sequence[str]]:
        """Return what media (B, *media_shape) of kind text say, of any of the modalities `speaking`."""
        said: dict[str, Sequence[str]] = {}
        for base in self.bases:
            decoder = text_decoder(base.backbone)
            own = {m: media[m].to(self.device) for m in base.plan.modalities if m in media}
            said |= decoder.to_text(own, base.plan) if own and decoder else {}
        return said

    def from_text(self, modality: str, texts: Sequence[str]) -> Tensor:
        """Return media (B, *media_shape) of B strings; raise ValueError for one that the backbone cannot say.

        Raises:
            UsageError: its backbone makes no media of strings.
        """
        base = next(base for base in self.bases if modality in base.plan.modalities)
        encoder = text_encoder(base.backbone)
        if encoder is None:
            raise UsageError(f"--given {modality}: its backbone makes nothing of strings: it has no from_text")
        return encoder.from_text({modality: texts}, base.plan)[modality]


def _conditions(base: Base, prompts: Prompts, negative: str) -> Mapping[str, Condition]:
    """Return a model's conditions; one of several modalities encodes each modality's own prompts."""
    if not isinstance(prompts, Mapping):
        return _encoded(base, prompts, negative)
    own = {m: tuple(prompts[m]) for m in base.modalities}
    encoded = {texts: _encoded(base, texts, negative) for texts in dict.fromkeys(own.values())}
    return {m: encoded[texts][m] for m, texts in own.items() if m in encoded[texts]}


def _encoded(base: Base, prompts: Sequence[str], negative: str) -> Mapping[str, Condition]:
    negatives = [negative] * len(prompts) if negative else None
    return base.backbone.encode_prompt(prompts, negatives, base.plan)
