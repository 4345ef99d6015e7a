"""`train.target: backbone`: one built-in base model, on its own modality alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from mmdisco_cli.assembly import request_of
from mmdisco_cli.backbones.token import TokenBackbone
from mmdisco_cli.data.contract import SplitDataset
from mmdisco_cli.data.opening import check_shapes, open_dataset
from mmdisco_cli.errors import PluginError, UsageError
from mmdisco_cli.recipes.schema import Component, Recipe
from mmdisco_cli.run.distribution import same_weights
from mmdisco_cli.training.backbone import denoising_loss
from mmdisco_cli.training.backbone_run import train_backbone
from mmdisco_cli.training.banks import Show
from mmdisco_cli.training.export import export_backbone, round_to_file
from mmdisco_cli.training.job import COPIES, Context, clips_of, heldout_of, step_memory
from mmdisco_cli.training.results import backbone_results

CPU = torch.device("cpu")


@dataclass(frozen=True)
class BackboneJob:
    """A base model to train, with its data; a `Job`."""

    recipe: Recipe
    backbone: TokenBackbone
    dataset: SplitDataset
    device: torch.device

    @property
    def inputs(self) -> dict[str, Any]:
        """Name the clips."""
        return {"data": self.dataset.fingerprint}

    @property
    def overview(self) -> dict[str, Any]:
        """Say what will be trained, on what, and what memory it takes."""
        config, backbone, train = self.recipe.train, self.backbone, self.dataset.split("train")
        shape = backbone.plan(backbone.request).latent_shape
        clips = config.bank if train.length is None else min(config.bank, train.length)
        parameters = {
            "codec": sum(p.numel() for p in backbone.codec.parameters()),
            "denoiser": sum(p.numel() for p in backbone.denoiser.parameters()),
        }
        empty = torch.zeros(1, *shape, dtype=torch.float16)
        saved = step_memory(
            lambda batch: denoising_loss(backbone.denoiser, empty, config, batch, CPU), config.batch_size
        )
        memory = COPIES * 4 * sum(parameters.values()) + 2 * clips * empty.numel() + saved
        return {
            "modality": backbone.modality,
            "parameters": parameters,
            "steps": {"codec": config.codec_steps, "denoiser": config.steps},
            "latent_shapes": {backbone.modality: list(shape)},
            "clips": clips_of(train),
            "bank": clips,
            "memory_mb": round(memory / 1e6),
        }

    def fit(self, context: Context, fingerprint: str) -> None:
        """Train codec and denoiser, going on where a former run stopped."""
        same_weights(self.backbone.module.to(context.device), context.ranks)
        directory, encoded = context.directory, context.stages.counter(f"encoding {self.backbone.modality}")
        train_backbone(
            self.backbone, self.dataset.split("train"), self.recipe.train, directory.path, directory.banks, fingerprint,
            context.stop, context.ranks, context.log, context.device, context.say, encoded,
        )  # fmt: skip

    def export(self, context: Context, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Measure the trained weights, write them to the run's directory, and return the results."""
        round_to_file(self.backbone.module)
        self.backbone.module.eval()
        heldout = heldout_of(self.dataset, context.say)
        measured = backbone_results(self.backbone, heldout, self.recipe.train, context.device) if heldout else {}
        results = {"training": dict(figures), **({"heldout": measured} if measured else {})}
        export_backbone(self.backbone, self.recipe, context.directory.weights, results)
        return results


def build_backbone(recipe: Recipe) -> TokenBackbone:
    """Return the recipe's one backbone that has no weights yet, initialised from the training seed.

    Raises:
        UsageError: there is not exactly one, it is not trainable, or the recipe leaves its codec untrained.
    """
    label, component = _untrained(recipe)
    config = recipe.train
    if config.codec_steps == 0:
        raise UsageError("train.codec_steps: 0 would leave the codec untrained")
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
    if not isinstance(backbone, TokenBackbone):
        raise UsageError(f"backbones.{label}: {component.name} cannot be trained here, only token can")
    return backbone


def backbone_job(recipe: Recipe, device: torch.device, show: Show | None = None) -> BackboneJob:
    """Build the base model and open its data; errors as for `build_backbone` and `open_dataset`."""
    backbone = build_backbone(recipe)
    plans = {backbone.modality: backbone.plan(backbone.request)}
    dataset = open_dataset(recipe, backbone.request, plans, show)
    check_shapes(dataset.split("train"), plans)
    return BackboneJob(recipe, backbone, dataset, device)


def _untrained(recipe: Recipe) -> tuple[str, Component]:
    found = [(label, c) for label, c in recipe.backbones.items() if getattr(c.options, "weights", None) is None]
    if len(found) != 1:
        names = ", ".join(label for label, _ in found) or "none"
        raise UsageError(f"train.target: backbone trains the one backbone without weights, but those are: {names}")
    return found[0]
