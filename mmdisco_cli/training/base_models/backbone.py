"""`train.target: backbone`: one built-in base model on its own modality alone, first its codec, then its denoiser.

A generator of a standard normal latent is trained in `generator` instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.assembly import request_of
from mmdisco_cli.backbones.denoiser import TokenDenoiser
from mmdisco_cli.backbones.latent_gaussian import LatentGaussian, TrainableGenerator
from mmdisco_cli.backbones.text import TextBank
from mmdisco_cli.backbones.token import Codec, TokenBackbone, codec_fingerprint
from mmdisco_cli.cache.content import Content, max_bad_of, part_of
from mmdisco_cli.cache.reading import Rows
from mmdisco_cli.data.contract import Dataset, SplitDataset
from mmdisco_cli.data.opening import check_shapes, open_dataset
from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.diffusion.schedules import Levels, cosine, log_snr
from mmdisco_cli.errors import PluginError, UsageError
from mmdisco_cli.recipes.schema import Component, Recipe, TrainConfig
from mmdisco_cli.run.distribution import same_weights
from mmdisco_cli.run.files import SHORT, sha256_of
from mmdisco_cli.training.base_models.generator import GeneratorJob
from mmdisco_cli.training.batch import draw_progress
from mmdisco_cli.training.caching import PART, make_cache
from mmdisco_cli.training.caption_rules import caption_inputs
from mmdisco_cli.training.data import Bank
from mmdisco_cli.training.loop import Context, Loss, fit
from mmdisco_cli.training.monitoring.averaged import unchanged
from mmdisco_cli.training.monitoring.monitor import Monitor, Probe
from mmdisco_cli.training.monitoring.signs import X0_ERROR
from mmdisco_cli.training.pairing import Captions, captions_of
from mmdisco_cli.training.report import (
    COPIES,
    backbone_results,
    clips_of,
    denoising_errors,
    export_backbone,
    heldout_latents,
    heldout_of,
    round_to_file,
    step_memory,
)
from mmdisco_cli.weights_file import find_weights

CODEC, DENOISER = "codec", "denoiser"
LEAST_SIGMA = 0.2
"""The v loss weighs the error of x_0 by 1 / sigma^2; below this the weight stops growing."""
CODEC_CLIPS = 2048
"""Clips that train the codec."""
MEASURED_ITEMS = 2048
"""Frames or log-mel spectrograms that its normalisation is measured on."""


@dataclass(frozen=True)
class BackboneJob:
    """A base model to train, with its data; a `TrainJob`."""

    recipe: Recipe
    backbone: TokenBackbone
    dataset: SplitDataset
    batch: int
    """Clips that this process takes at once."""

    @cached_property
    def captions(self) -> Captions | None:
        """Return the captions that training draws from, None where the model takes none."""
        if not self.backbone.takes_prompts:
            return None
        train = self.dataset.split("train")
        return captions_of(train, range(_at_most(self.recipe.train.bank, train)), (self.backbone.modality,))

    def _texts(self, clips: Sequence[int] | None = None) -> TextBank | None:
        """Return the captions of some clips, by default of all."""
        captions = self.captions if self.captions is None or clips is None else self.captions.at(clips)
        texts = captions.texts[self.backbone.modality] if captions else ()
        return TextBank(texts, self.recipe.train.text_dropout) if texts else None

    @property
    def inputs(self) -> dict[str, Any]:
        """Name the clips, and the captions and weights to go on from where there are any."""
        base = self.backbone.options.base
        return (
            {"data": self.dataset.fingerprint}
            | ({"base": sha256_of(find_weights(base))[:SHORT]} if base else {})
            | (caption_inputs(self.captions, self.recipe) if self.captions else {})
        )

    @property
    def overview(self) -> dict[str, Any]:
        """Say what will be trained, on what, and what memory it takes."""
        config, backbone, train = self.recipe.train, self.backbone, self.dataset.split("train")
        shape, clips = backbone.plan(backbone.request).latent_shape, _at_most(config.bank, train)
        parameters = {
            "codec": sum(p.numel() for p in backbone.codec.parameters()),
            "denoiser": sum(p.numel() for p in backbone.denoiser.parameters()),
        }
        empty, cpu = torch.zeros(1, *shape, dtype=torch.float16), torch.device("cpu")
        saved = step_memory(
            lambda batch: denoising_loss(backbone.denoiser, empty, config, batch, cpu, self._texts()), self.batch
        )
        memory = COPIES * 4 * sum(parameters.values()) + saved  # encoded clips stay on disk
        return {
            "modality": backbone.modality,
            "parameters": parameters,
            "steps": {"codec": config.codec_steps * _is_learnt(backbone.codec), "denoiser": config.steps},
            "latent_shapes": {backbone.modality: list(shape)},
            "clips": clips_of(train),
            **({"captions": len(self.captions), "text_dropout": config.text_dropout} if self.captions else {}),
            "bank": clips,
            "memory_mb": round(memory / 1e6),
        }

    def fit(self, context: Context) -> None:
        """Train codec and denoiser, going on where a former run stopped."""
        backbone, config, train = self.backbone, self.recipe.train, self.dataset.split("train")
        same_weights(backbone.module.to(context.device), context.ranks)
        if backbone.options.base is None:  # else the codec is that of the base
            fit_codec(backbone, train, context)
        rows = encoded_rows(backbone, train, context)
        bank, texts = rows.latents[backbone.modality], self._texts(rows.clips)
        loss = denoising_loss(backbone.denoiser, bank, config, context.batch, context.device, texts)
        monitor = Monitor(context, DENOISER, config.steps, self._probe(context))
        fit(backbone.denoiser, loss, context, DENOISER, config.steps, monitor)

    def _probe(self, context: Context) -> Probe:
        """Return what is done with the denoiser while it is trained."""
        heldout = heldout_of(self.dataset, context) if self.recipe.train.validate_every else None
        if heldout is None or not context.ranks.first:
            return Probe(best=X0_ERROR)
        latents, texts = heldout_latents(self.backbone, heldout, context.device)

        def measure() -> dict[str, Any]:
            errors = denoising_errors(self.backbone, latents, self.recipe.train, texts)
            return {X0_ERROR.name: sum(errors.values()) / len(errors), "x0_error_by_log_snr": errors}

        def export(path: Path, results: Mapping[str, Any]) -> None:
            with unchanged(self.backbone.module):  # the codec too, which is not what is trained
                self._export(path, results)

        return Probe(measure, X0_ERROR, export)

    def _export(self, path: Path, results: Mapping[str, Any]) -> None:
        round_to_file(self.backbone.module)  # before the codec's fingerprint is taken
        export_backbone(self.backbone, codec_fingerprint(self.backbone), self.recipe, path, results)

    def export(self, context: Context, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Measure the trained weights, write them to the run's directory, and return the results."""
        round_to_file(self.backbone.module)
        self.backbone.module.eval()
        heldout = heldout_of(self.dataset, context)
        measured = backbone_results(self.backbone, heldout, self.recipe.train, context.device) if heldout else {}
        results = {"training": dict(figures), **({"heldout": measured} if measured else {})}
        self._export(context.directory.weights, results)
        return results


def backbone_job(context: Context) -> BackboneJob | GeneratorJob:
    """Build the base model and open its data; errors as for `build_backbone` and `open_dataset`."""
    recipe = context.recipe
    if recipe.train.compile:
        context.say("note: train.compile is of no use to train.target=backbone: only what predicts is compiled")
    backbone = build_backbone(recipe)
    plans, kinds = {backbone.modality: backbone.plan(backbone.request)}, {backbone.modality: backbone.info.kind}
    dataset = open_dataset(recipe, backbone.request, plans, context.counter("reading files"), kinds=kinds)
    for line in dataset.report:
        context.say(line)
    check_shapes(dataset.split("train"), plans)
    if not isinstance(backbone, TokenBackbone):
        return GeneratorJob(recipe, backbone, trainable(backbone), dataset, context.batch)
    job = BackboneJob(recipe, backbone, dataset, context.batch)
    if backbone.takes_prompts and job.captions is None:
        raise UsageError(f"backbones.{backbone.modality}.text: the data have no captions to learn from")
    return job


def trainable(backbone: LatentGaussian) -> TrainableGenerator:
    """Return a backbone's generator; raise UsageError where it has no loss to train it by."""
    if not isinstance(backbone.generator, TrainableGenerator):
        raise UsageError(f"backbones.{backbone.modality}: its generator has no member `loss` to train it by")
    return backbone.generator


def build_backbone(recipe: Recipe) -> TokenBackbone | LatentGaussian:
    """Return the recipe's one backbone that has no weights yet, initialised from the training seed.

    Raises:
        UsageError: there is not exactly one, it is not trainable, or the recipe leaves its codec untrained.
    """
    label, component = _untrained(recipe)
    config = recipe.train
    if config.codec_steps and getattr(component.options, "base", None) is not None:
        raise UsageError(f"train.codec_steps: the codec is that of backbones.{label}.base, so 0 of them")
    if config.bank == 0:
        raise UsageError("train.bank: a base model is trained on clips encoded once; say how many")
    try:
        build = component.factory()
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{component.name!r} cannot be imported: {error}") from error
    # Seeded here and nowhere else: initialisation is the only use of the global generator.
    torch.manual_seed(config.seed)
    try:
        backbone = build(label, component.options, request_of(recipe))
    except ValueError as error:
        raise UsageError(f"backbones.{label}: {error}") from error
    if isinstance(backbone, LatentGaussian):
        return backbone
    if not isinstance(backbone, TokenBackbone):
        able = "token and latent-gaussian"
        raise UsageError(f"backbones.{label}: {component.name} cannot be trained here, only {able} can")
    if config.codec_steps == 0 and backbone.options.base is None and _is_learnt(backbone.codec):
        raise UsageError("train.codec_steps: 0 would leave the codec untrained")
    return backbone


def _is_learnt(codec: Codec) -> bool:
    return any(True for _ in codec.parameters())


def _untrained(recipe: Recipe) -> tuple[str, Component]:
    found = [(label, c) for label, c in recipe.backbones.items() if getattr(c.options, "weights", None) is None]
    if len(found) != 1:
        names = ", ".join(label for label, _ in found) or "none"
        raise UsageError(f"train.target: backbone trains the one backbone without weights, but those are: {names}")
    return found[0]


def fit_codec(backbone: TokenBackbone, dataset: Dataset, context: Context) -> None:
    """Train a backbone's codec in place, if it learns, and measure the normalisation of its latents."""
    codec, config, device = backbone.codec, context.recipe.train, context.device
    count = _at_most(min(config.bank, CODEC_CLIPS), dataset)
    context.say(f"reading {count} clips for the codec ({backbone.modality})")
    items = codec_items(codec, dataset, backbone.modality, count)
    if _is_learnt(codec):
        monitor = Monitor(context, CODEC, config.codec_steps)
        fit(codec, codec_loss(codec, items, config, device), context, CODEC, config.codec_steps, monitor)
    codec.measure(codec.expand(items[:MEASURED_ITEMS]).to(device))
    same_weights(codec, context.ranks)


def encoded_rows(backbone: TokenBackbone, dataset: Dataset, context: Context) -> Rows:
    """Return the encoded rows of the first clips, as many as the recipe's bank; errors as for `make_cache`."""
    plan, name = backbone.plan(backbone.request), backbone.modality
    part = part_of(dataset, context.recipe.train.bank, (name,), max_bad_of(context.recipe))
    context.say(f"encoding {part.count} clips ({name})")

    def encode(media: Mapping[str, Tensor]) -> State:
        return {name: backbone.encode(media[name].to(context.device), plan).cpu()}

    content = Content({PART: part}, {name: plan}, {name: codec_fingerprint(backbone)}, encode)
    return make_cache(content, context).rows(PART, part.count)


def codec_items(codec: Codec, dataset: Dataset, modality: str, count: int) -> Tensor:
    """Return the compact items of the first `count` clips."""
    chunks = [range(i, min(i + 32, count)) for i in range(0, count, 32)]
    return torch.cat([codec.compact(dataset.media(chunk, (modality,))[modality]) for chunk in chunks])


def codec_loss(codec: Codec, items: Tensor, config: TrainConfig, device: torch.device) -> Loss:
    """Return the reconstruction loss over compact items (N, ...): single frames or log-mel spectrograms."""
    size = max(codec.batch // config.accumulate, 1)

    def loss(generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        rows = torch.randint(len(items), (size,), generator=generator)
        batch = codec.expand(items[rows]).to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=config.dtype == "bfloat16"):
            value = codec.reconstruction_loss(batch, generator)
        return value, {}

    return loss


def denoising_loss(
    denoiser: TokenDenoiser,
    bank: Bank,
    config: TrainConfig,
    batch: int,
    device: torch.device,
    texts: TextBank | None = None,
) -> Loss:
    """Return the loss of x_0 prediction, weighted as an error of v (Salimans & Ho, arXiv 2202.00512).

    `bank` are clean latents (N, ...), of which a step takes `batch`, and `texts` their captions.
    """
    schedule = cosine()

    def loss(generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        rows = torch.randint(len(bank), (batch,), generator=generator)
        clean = bank[rows].float().to(device)
        u = draw_progress(config.noise_levels, schedule.levels_at, batch, generator)
        levels = Levels(*(level.to(device) for level in schedule.levels_at(u)))
        alpha, sigma = (level.view(-1, *[1] * (clean.ndim - 1)) for level in (levels.alpha, levels.sigma))
        noisy = alpha * clean + sigma * torch.randn(clean.shape, generator=generator).to(device)
        ids = texts.of(rows, generator).to(device) if texts else None
        with torch.autocast(device.type, torch.bfloat16, enabled=config.dtype == "bfloat16"):
            read = denoiser.text(ids) if ids is not None else None
            predicted = denoiser(noisy, log_snr(levels.alpha, levels.sigma), read)
        error = (predicted.float() - clean).square().flatten(1).mean(1)
        value = (error / levels.sigma.clamp_min(LEAST_SIGMA).square()).mean()
        return value, {"x0_error": float(error.mean().detach())}

    return loss


def _at_most(count: int, dataset: Dataset) -> int:
    """Return a count of clips, or how many there are if those are fewer."""
    return count if dataset.length is None else min(count, dataset.length)
