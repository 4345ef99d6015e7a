"""What is to be cached: which clips and texts, encoded by which models, and what all of it depends on."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.cache.layout import FORMAT, Clips, Texts, clip_shards, rows_a_shard, text_shards
from mmdisco_cli.cache.texts import EncodeText, without_negative
from mmdisco_cli.data.contract import Captioned, Dataset, Labelled, Sourced, as_float
from mmdisco_cli.diffusion.backbone import Condition, ModalityPlan, State
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run.files import fingerprint

MAX_BAD = 0.05
"""Share of clips that may turn out broken, for data sets without an option of that name."""
Encode = Callable[[Mapping[str, Tensor]], State]
"""Latents (B, ...) on the CPU of media (B, ...), by modality; media may be compact, as a data set has them."""


@dataclass(frozen=True)
class Part:
    """The first `count` clips of a part of a data set, their texts by modality, and their labels and sources, if any.

    More than the share `max_bad` of them that cannot be read is an error. `captions` changes with the texts and labels
    of all clips of a part that ends.
    """

    dataset: Dataset
    count: int
    texts: Mapping[str, Sequence[str]]
    labels: Sequence[str] = ()
    sources: Sequence[str] = ()
    max_bad: float = MAX_BAD
    captions: str = ""


@dataclass(frozen=True)
class Content:
    """Everything that a cache shall hold; `models` names, by modality, the codec that encodes it.

    `prompts` is what the form of encoded texts depends on, and `options` what else the clips do, where they are known.
    """

    parts: Mapping[str, Part]
    plans: Mapping[str, ModalityPlan]
    models: Mapping[str, str]
    encode: Encode
    encode_text: EncodeText | None = None
    prompts: Mapping[str, Any] | None = None
    options: Mapping[str, Any] | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the latent shape of every modality, without batch."""
        return {m: plan.latent_shape for m, plan in self.plans.items()}

    @cached_property
    def texts(self) -> list[str]:
        """Return each text once, the empty one first; none where no model reads any."""
        if self.encode_text is None:
            return []
        own = (text for part in self.parts.values() for texts in part.texts.values() for text in texts)
        return list(dict.fromkeys(["", *own]))

    @cached_property
    def key(self) -> dict[str, Any]:
        """Return what the content depends on, as JSON gives it back; not how many clips there are of each part."""
        parts = self.parts.items()
        found: dict[str, Any] = as_json(
            {
                "format": FORMAT,
                **models_key(self.models, self.plans),
                "prompts": self.prompts if self.encode_text else None,
                "options": self.options or {},
                "captions": {name: part.captions for name, part in parts},
                "clips": {name: part.dataset.fingerprint for name, part in parts},
            }
        )
        return found

    @property
    def name(self) -> str:
        """Return what changes with anything in the key."""
        return fingerprint(json.dumps(self.key, sort_keys=True))

    def shards(self) -> list[Clips | Texts]:
        """Return all shards, in the order in which they are made."""
        size = rows_a_shard(self.shapes)
        clips = [shard for name, part in self.parts.items() for shard in clip_shards(name, part.count, size)]
        return [*text_shards(self.texts), *clips]


def as_json(value: Any) -> Any:
    """Return a value as it is once written and read."""
    return json.loads(json.dumps(value))


def models_key(models: Mapping[str, str], plans: Mapping[str, ModalityPlan]) -> dict[str, Any]:
    """Return what of a key the models decide."""
    windows = {m: [list(plan.media_shape), plan.rate, plan.seconds] for m, plan in plans.items()}
    latents = {m: list(plan.latent_shape) for m, plan in plans.items()}
    return {"models": dict(models), "windows": windows, "latents": latents}


def models_of(assembly: Assembly) -> dict[str, str]:
    """Return the fingerprint of the model of each modality."""
    return {m: base.backbone.info.fingerprint for base in assembly.bases for m in base.plan.modalities}


def content_of(assembly: Assembly, parts: Mapping[str, Part], options: Mapping[str, Any] | None = None) -> Content:
    """Return what the models of a recipe make of clips, and of their texts where prompts condition any of them."""

    def encode(media: Mapping[str, Tensor]) -> State:
        # Compact until they are on the device: a quarter of the bytes has to get there.
        found = assembly.encode({m: as_float(x.to(assembly.device)) for m, x in media.items()})
        return {m: x.cpu() for m, x in found.items()}

    reads = any(any(map(any, part.texts.values())) for part in parts.values()) and assembly.reads_prompts
    encode_text = (lambda text: conditions_of(assembly, text)) if reads else None
    return Content(parts, assembly.modalities, models_of(assembly), encode, encode_text, prompts_of(assembly), options)


def prompts_of(assembly: Assembly) -> dict[str, Any]:
    """Return the label of each modality's model, and the size of its pooled condition."""
    return {m: [label, i.pooled_dim] for label, base in assembly.models.items() for m, i in base.modalities.items()}


def conditions_of(assembly: Assembly, text: str) -> dict[str, dict[str, Condition]]:
    """Return what one text is to each model by its label, a batch of one, without the negative half of CFG."""
    found = {label: base.backbone.encode_prompt([text], None, base.plan) for label, base in assembly.models.items()}
    return {
        label: {m: without_negative(condition) for m, condition in conditions.items()}
        for label, conditions in found.items()
    }


def part_of(dataset: Dataset, count: int, modalities: Sequence[str], max_bad: float = MAX_BAD) -> Part:
    """Return the first `count` clips of a data set, or as many as there are, with what is said of them."""
    count = count if dataset.length is None else min(count, dataset.length)
    texts, labels = _said(dataset, count, modalities)
    whole = _said(dataset, dataset.length, modalities) if dataset.length else ({}, ())
    captions = fingerprint(json.dumps(whole, sort_keys=True, ensure_ascii=False)) if any(whole) else ""
    sources = dataset.sources(range(count)) if isinstance(dataset, Sourced) else ()
    return Part(dataset, count, texts, labels, sources, max_bad, captions)


def _said(dataset: Dataset, count: int, modalities: Sequence[str]) -> tuple[Mapping[str, Sequence[str]], Sequence[str]]:
    """Return the texts and labels of the first clips; none where they are all empty."""
    texts = dataset.captions(range(count), modalities) if isinstance(dataset, Captioned) else {}
    labels = dataset.labels(range(count)) if isinstance(dataset, Labelled) else ()
    texts = {m: list(found) for m, found in texts.items()} if any(map(any, texts.values())) else {}
    return texts, list(labels) if any(labels) else ()


def max_bad_of(recipe: Recipe) -> float:
    """Return the share of a recipe's clips that may turn out broken: its data's option, or that of clips."""
    return float(getattr(recipe.data.options if recipe.data else None, "max_bad", MAX_BAD))
