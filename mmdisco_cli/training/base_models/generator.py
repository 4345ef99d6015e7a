"""`train.target: backbone` for a generator of a standard normal latent, a VAE or a GAN: one loss over its media."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.backbones.latent_gaussian import LatentGaussian, TrainableGenerator
from mmdisco_cli.cache.content import Content, max_bad_of, part_of
from mmdisco_cli.data.contract import SplitDataset
from mmdisco_cli.recipes.schema import Recipe, TrainConfig
from mmdisco_cli.run.distribution import same_weights
from mmdisco_cli.training.caching import PART, make_cache
from mmdisco_cli.training.data import Bank
from mmdisco_cli.training.loop import Context, Loss, fit, step_generator
from mmdisco_cli.training.monitoring.monitor import Monitor, Probe
from mmdisco_cli.training.monitoring.signs import LOSS
from mmdisco_cli.training.report import (
    BATCHES,
    CLIPS,
    COPIES,
    MEASURE,
    clips_of,
    export_backbone,
    heldout_of,
    round_to_file,
    step_memory,
)

STAGE, VAE = "generator", "vae"


@dataclass(frozen=True)
class GeneratorJob:
    """A generator to train, with its data; a `TrainJob`."""

    recipe: Recipe
    backbone: LatentGaussian
    trained: TrainableGenerator
    dataset: SplitDataset
    batch: int
    """Clips that this process takes at once."""

    @property
    def inputs(self) -> dict[str, Any]:
        """Name the clips."""
        return {"data": self.dataset.fingerprint}

    @property
    def overview(self) -> dict[str, Any]:
        """Say what will be trained, on what, and what memory it takes."""
        config, backbone, train = self.recipe.train, self.backbone, self.dataset.split("train")
        plan, clips = backbone.plan(backbone.request), clips_in(config, train)
        empty, parameters = torch.zeros(1, *plan.media_shape), sum(p.numel() for p in backbone.module.parameters())
        saved = step_memory(lambda batch: self._loss(empty, batch, torch.device("cpu")), self.batch)
        memory = COPIES * 4 * parameters + saved  # media stay on disk
        return {
            "modality": backbone.modality,
            "parameters": {STAGE: parameters},
            "steps": {STAGE: config.steps},
            "latent_shapes": {backbone.modality: list(plan.latent_shape)},
            "clips": clips_of(train),
            "bank": clips,
            "memory_mb": round(memory / 1e6),
        }

    def fit(self, context: Context) -> None:
        """Train the generator, going on where a former run stopped."""
        same_weights(self.backbone.module.to(context.device), context.ranks)
        loss = self._loss(self._media(context), context.batch, context.device)
        monitor = Monitor(context, STAGE, self.recipe.train.steps, self._probe(context))
        fit(self.backbone.module, loss, context, STAGE, self.recipe.train.steps, monitor)

    def _probe(self, context: Context) -> Probe:
        """Return what is done with the generator while it is trained; only a VAE's loss says which one is best."""
        heldout = heldout_of(self.dataset, context) if self.recipe.train.validate_every else None
        if heldout is None or not context.ranks.first:
            return Probe()
        media = self._heldout_media(heldout, context)
        if getattr(self.backbone.options, "generator", "") != VAE:
            return Probe(lambda: self._measured(media, context))
        return Probe(lambda: self._measured(media, context), LOSS, self._export)

    def _media(self, context: Context) -> Bank:
        """Return the media (N, *media_shape) of the clips to train on, kept as a cache keeps latents."""
        name, plan = self.backbone.modality, self.backbone.plan(self.backbone.request)
        part = part_of(self.dataset.split("train"), self.recipe.train.bank, (name,), max_bad_of(self.recipe))
        as_they_are = {name: replace(plan, latent_shape=plan.media_shape)}
        content = Content({PART: part}, as_they_are, {name: "media"}, lambda media: {name: media[name]})
        return make_cache(content, context).rows(PART, part.count).latents[name]

    def export(self, context: Context, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Measure the trained weights, write them to the run's directory, and return the results."""
        round_to_file(self.backbone.module)
        self.backbone.module.eval()
        heldout = heldout_of(self.dataset, context)
        measured = self._measured(self._heldout_media(heldout, context), context) if heldout else {}
        results = {"training": dict(figures), **({"heldout": measured} if measured else {})}
        self._export(context.directory.weights, results)
        return results

    def _export(self, path: Path, results: Mapping[str, Any]) -> None:
        round_to_file(self.backbone.module)  # before its fingerprint is taken
        export_backbone(self.backbone, self.backbone.codec, self.recipe, path, results)

    def _heldout_media(self, heldout: SplitDataset, context: Context) -> Tensor:
        count, name = CLIPS if heldout.length is None else min(CLIPS, heldout.length), self.backbone.modality
        return heldout.media(range(count), (name,))[name].to(context.device)

    @torch.no_grad()
    def _measured(self, media: Tensor, context: Context) -> dict[str, Any]:
        """Return the loss on held-out media, and the moments of their latents, 0 and 1 where z is standard normal."""
        backbone, count = self.backbone, len(media)
        loss = self._loss(media, min(self.recipe.train.batch_size, count), context.device)
        values = [float(loss(step_generator(self.recipe.train.seed, MEASURE, k))[0]) for k in range(BATCHES)]
        z = backbone.encode(media, backbone.plan(backbone.request)).flatten(1)
        moments = {"mean": float(z.mean(0).square().mean().sqrt()), "std": float(z.std(0).mean())}
        return {"clips": count, "loss": sum(values) / BATCHES, "latent": moments}

    def _loss(self, media: Bank, batch: int, device: torch.device) -> Loss:
        config = self.recipe.train

        def loss(generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
            rows = torch.randint(len(media), (batch,), generator=generator)
            with torch.autocast(device.type, torch.bfloat16, enabled=config.dtype == "bfloat16"):
                return self.trained.loss(media[rows].float().to(device), generator)

        return loss


def clips_in(config: TrainConfig, dataset: SplitDataset) -> int:
    """Return how many clips are kept in memory: the recipe's bank, or how many there are if those are fewer."""
    return config.bank if dataset.length is None else min(config.bank, dataset.length)
