"""`train.target: discriminator`: what joins base models that are only ever asked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmdisco_cli.assembly import Assembly, assemble, build_discriminator, request_of
from mmdisco_cli.assembly.trial import try_discriminator
from mmdisco_cli.data.contract import SplitDataset
from mmdisco_cli.data.opening import check_shapes, open_dataset
from mmdisco_cli.devices import DTYPES
from mmdisco_cli.diffusion.backbone import State, count_parameters
from mmdisco_cli.diffusion.whole import require_predictions
from mmdisco_cli.discriminators.interaction import ADDITIVE
from mmdisco_cli.errors import UsageError
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run.distribution import Ranks, same_weights
from mmdisco_cli.sampling.draw import require_steps
from mmdisco_cli.training.banks import Show
from mmdisco_cli.training.discriminator_run import Draw, Pairing, discriminator_loss, train_discriminator
from mmdisco_cli.training.export import export_discriminator, round_to_file
from mmdisco_cli.training.generated import DEFAULT_COUNT
from mmdisco_cli.training.job import COPIES, Context, clips_of, heldout_of, step_memory
from mmdisco_cli.training.loop import Loss
from mmdisco_cli.training.results import CLIPS, discriminator_results
from mmdisco_cli.training.tuples import fake_tuples, real_tuples, require_fakes_fit


@dataclass(frozen=True)
class DiscriminatorJob:
    """A discriminator to train, its base models and data; a `Job`."""

    recipe: Recipe
    assembly: Assembly
    module: nn.Module
    dataset: SplitDataset

    @property
    def inputs(self) -> dict[str, Any]:
        """Name the clips and the weights of the base models."""
        return {"data": self.dataset.fingerprint, "backbones": self.assembly.fingerprints}

    @property
    def pairing(self) -> Pairing:
        """Return which noise levels the discriminator is shown."""
        return Pairing(self.assembly.bases, self.assembly.coupling, self.recipe.train.given_fraction)

    @property
    def overview(self) -> dict[str, Any]:
        """Say what will be trained, on what, and what memory it takes."""
        config, shapes, train = self.recipe.train, self.assembly.shapes, self.dataset.split("train")
        own = sum(p.numel() for p in self.module.parameters())
        bases = {label: count_parameters(base.backbone) for label, base in self.assembly.models.items()}
        clips = config.bank if train.length is None else min(config.bank, train.length)
        values = sum(torch.Size(shape).numel() for shape in shapes.values())
        fakes = 0 if config.fakes == "shuffled" else config.bank or DEFAULT_COUNT
        saved = step_memory(lambda batch: self._loss(_blank(shapes), _blank(shapes), batch), config.batch_size)
        weights = 4 * (COPIES * own + sum(count or 0 for count in bases.values()))
        return {
            "discriminator": self.recipe.discriminator.name if self.recipe.discriminator else "",
            "parameters": {"discriminator": own, **bases},
            "steps": {"discriminator": config.steps},
            "latent_shapes": {m: list(shape) for m, shape in shapes.items()},
            "clips": clips_of(train),
            "bank": clips,
            "fakes": config.fakes,
            "memory_mb": round((weights + 2 * (clips + fakes) * values + saved) / 1e6),
        }

    def fit(self, context: Context, fingerprint: str) -> None:
        """Train, going on where a former run stopped."""
        assembly, config, ranks, stop = self.assembly, self.recipe.train, context.ranks, context.stop
        banks, counter = context.directory.banks, context.stages.counter
        same_weights(self.module, ranks)
        real = real_tuples(assembly, self.dataset.split("train"), config.bank, banks, ranks, stop, counter)
        fake = self._fakes(real, context, ranks)
        train_discriminator(
            self.module.to(context.device), self.pairing, real, fake, self.recipe.sample.window, config,
            context.directory.path, fingerprint, stop, ranks, context.log, context.device,
        )  # fmt: skip

    def export(self, context: Context, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Measure the trained weights, write them to the run's directory, and return the results."""
        round_to_file(self.module)
        results: dict[str, Any] = {"training": dict(figures)}
        heldout = heldout_of(self.dataset, context.say)
        if heldout is not None:
            measured = self._measured(heldout, context)
            results["heldout"] = measured
            if measured["interaction"] < ADDITIVE:
                context.say(
                    f"warning: interaction {measured['interaction']:.2g}: what this discriminator says of one modality "
                    "does not depend on the other, so it cannot align them"
                )
        export_discriminator(self.module, self.assembly, self.recipe, context.directory.weights, results)
        return results

    def _measured(self, heldout: SplitDataset, context: Context) -> dict[str, Any]:
        config, alone = self.recipe.train, Ranks()
        count = min(CLIPS, config.bank)
        real = real_tuples(
            self.assembly, heldout, count, context.directory.banks, alone, context.stop, context.stages.counter
        )
        # Held-out tuples re-paired are fakes for anyone but a model that makes several modalities together.
        parted = any(len(base.plan.modalities) > 1 for base in self.assembly.bases)
        fake = self._fakes(real, context, alone) if parted else None
        loss = self._loss(real, fake, config.batch_size)
        return discriminator_results(self.module, loss, real, self.assembly, config)

    def _fakes(self, real: Draw, context: Context, ranks: Ranks) -> Draw | None:
        banks, stop, counter = context.directory.banks, context.stop, context.stages.counter
        return fake_tuples(self.recipe, self.assembly, real, banks, ranks, stop, counter)

    def _loss(self, real: Draw, fake: Draw | None, batch: int) -> Loss:
        device, window = self.assembly.device, self.recipe.sample.window
        return discriminator_loss(self.module, self.pairing, real, fake, window, self.recipe.train, batch, device)


def discriminator_job(recipe: Recipe, device: torch.device, ranks: Ranks, show: Show | None = None) -> DiscriminatorJob:
    """Build models and open data.

    Raises:
        UsageError: no discriminator, a base model without weights, or sizes that do not fit.
        DataError: weights or data are missing or damaged.
    """
    assembly = _assembled(recipe, device)
    if recipe.train.fakes != "shuffled":
        require_steps(assembly, recipe.sample)
    require_fakes_fit(recipe, assembly, max(recipe.train.batch_size // ranks.world, 1))
    component = recipe.discriminator
    if component is None:
        raise UsageError(f"recipe {recipe.name} has no discriminator to train")
    # Seeded here and nowhere else: initialisation is the only use of the global generator.
    torch.manual_seed(recipe.train.seed)
    module = build_discriminator(component, assembly.shapes, assembly.pooled).to(device)
    twice = recipe.train.lambda_denoise > 0
    try_discriminator(component.spec, module, assembly.shapes, assembly.pooled, twice=twice)
    dataset = open_dataset(recipe, request_of(recipe), assembly.modalities, show)
    check_shapes(dataset.split("train"), assembly.modalities)
    return DiscriminatorJob(recipe, assembly, module, dataset)


def _assembled(recipe: Recipe, device: torch.device) -> Assembly:
    assembly = assemble(recipe, device, DTYPES[recipe.train.dtype], with_discriminator=False)
    require_predictions(assembly.models, "trained beside")
    if shown := assembly.showing_prompts:
        raise UsageError(
            f"{shown}: the discriminator would be shown prompts, but training has no captions to teach it what they "
            "mean: train with pooled: false"
        )
    return assembly


def _blank(shapes: Mapping[str, tuple[int, ...]]) -> Draw:
    def draw(batch: int, generator: torch.Generator) -> State:
        blank: dict[str, Tensor] = {m: torch.zeros(batch, *shape) for m, shape in shapes.items()}
        return blank

    return draw
