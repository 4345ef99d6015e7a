"""`train.target: discriminator`: what joins base models, which only predict and are not trained."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmdisco_cli.assembly import Assembly, assemble, build_discriminator, request_of
from mmdisco_cli.assembly.texts import unread_lines
from mmdisco_cli.assembly.trial import try_discriminator
from mmdisco_cli.cache.dataset import CachedData
from mmdisco_cli.cache.workers import worker_errors
from mmdisco_cli.data.contract import SplitDataset
from mmdisco_cli.devices import DTYPES
from mmdisco_cli.diffusion.backbone import count_parameters
from mmdisco_cli.diffusion.denoise import Prediction, predict_bases, unguided_scales
from mmdisco_cli.diffusion.schedules import Levels
from mmdisco_cli.diffusion.whole import require_predictions
from mmdisco_cli.discriminators.interaction import ADDITIVE
from mmdisco_cli.errors import UsageError
from mmdisco_cli.recipes.missing import require_files, require_initial
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run import console
from mmdisco_cli.run.distribution import same_weights
from mmdisco_cli.run.files import SHORT, sha256_of
from mmdisco_cli.run.ranks import ranks_of
from mmdisco_cli.sampling.draw import require_steps
from mmdisco_cli.tensors.compiling import Compiling
from mmdisco_cli.training.batch import (
    Batch,
    LevelSampler,
    NoisyBatch,
    groups_of,
    noised,
    repeated,
    shares_of,
)
from mmdisco_cli.training.caching import check_data, open_data, release_encoders
from mmdisco_cli.training.caption_rules import (
    caption_inputs,
    caption_notes,
    require_an_end,
    require_captions,
    require_none_shown,
    require_texts_fit,
)
from mmdisco_cli.training.conditions import Conditions, conditioned, encoded_of
from mmdisco_cli.training.data import (
    BatchSource,
    FakeSource,
    fake_tuples,
    real_tuples,
    require_fakes_fit,
    training_captions,
)
from mmdisco_cli.training.initial import start_from
from mmdisco_cli.training.loop import Context, Loss, Observer, fit
from mmdisco_cli.training.losses import joint_losses
from mmdisco_cli.training.monitoring.monitor import Monitor, Probe
from mmdisco_cli.training.monitoring.previews import previews_of
from mmdisco_cli.training.monitoring.probes import discriminator_probe
from mmdisco_cli.training.pairing import Captions
from mmdisco_cli.training.report import (
    CLIPS,
    COPIES,
    clips_of,
    discriminator_results,
    export_discriminator,
    heldout_of,
    round_to_file,
    step_memory,
)
from mmdisco_cli.training.unevaluated import unevaluated
from mmdisco_cli.weights_file import find_weights

STAGE = "discriminator"


@dataclass(frozen=True)
class Tuples:
    """Sources of real tuples and of fakes, None where real ones are re-paired."""

    real: BatchSource
    fake: FakeSource | None


@dataclass(frozen=True)
class DiscriminatorJob:
    """A discriminator to train, its base models and data, and the held-out tuples it is measured on; a `TrainJob`."""

    recipe: Recipe
    assembly: Assembly
    module: nn.Module
    dataset: SplitDataset
    batch: int
    """Tuples that this process takes at once."""
    measured: list[Tuples] = field(default_factory=list)

    @cached_property
    def captions(self) -> Captions | None:
        """Return the captions that training draws from, None where it has none."""
        return training_captions(self.assembly, self.dataset.split("train"), self.recipe.train.bank)

    @property
    def inputs(self) -> dict[str, Any]:
        """Name the clips and the weights of the base models; captions, and how they are used, only where there are."""
        own = {"data": self.dataset.fingerprint, "backbones": self.assembly.fingerprints}
        init = self.recipe.train.init
        own |= {"train.init": sha256_of(find_weights(init))[:SHORT]} if init else {}
        return own | (caption_inputs(self.captions, self.recipe) if self.captions else {})

    @property
    def overview(self) -> dict[str, Any]:
        """Say what will be trained, on what, and what memory it takes."""
        config, shapes, train = self.recipe.train, self.assembly.shapes, self.dataset.split("train")
        own = sum(p.numel() for p in self.module.parameters())
        bases = {label: count_parameters(base.backbone) for label, base in self.assembly.models.items()}
        whole = train.length if isinstance(train, CachedData) else 0  # what train.bank=0 means of a cache
        clips = (config.bank or whole) if train.length is None else min(config.bank or whole or 0, train.length)
        blank = _blank(shapes, with_texts=self.captions is not None)
        alone = replace(self, assembly=unevaluated(self.assembly))
        saved = step_memory(lambda batch: alone._loss(blank, lambda clean, _: clean, batch), self.batch)
        weights = 4 * COPIES * own + sum((count or 0) * self._width(label) for label, count in bases.items())
        return {
            "discriminator": self.recipe.discriminator.name if self.recipe.discriminator else "",
            "parameters": {"discriminator": own, **bases},
            "steps": {"discriminator": config.steps},
            "latent_shapes": {m: list(shape) for m, shape in shapes.items()},
            "clips": clips_of(train),
            **({"captions": len(self.captions), "text_dropout": config.text_dropout} if self.captions else {}),
            "bank": clips,
            "fakes": config.fakes,
            "memory_mb": round((weights + saved) / 1e6),  # encoded clips and fakes stay on disk
        }

    def _width(self, label: str) -> int:
        """Return the bytes of one weight of a base model, float32 where its options name no `dtype`."""
        named = getattr(self.recipe.backbones[label].options, "dtype", "float32")
        return 2 if named in ("bfloat16", "float16") else 4

    def fit(self, context: Context) -> None:
        """Train, going on where a former run stopped."""
        same_weights(self.module, context.ranks)
        real = real_tuples(self.assembly, self.dataset.split("train"), self.recipe.train.bank, context)
        fake = fake_tuples(self.assembly, real, context)
        # Before training, while whatever encodes clips and texts is there.
        self.measured.extend(self._heldout_tuples(context))
        known = [encoded_of(source) for source in (real, *(tuples.real for tuples in self.measured))]
        release = partial(release_encoders, self.assembly, *known) if self._reads_stored_rows else _keep
        observer = Monitor(context, STAGE, self.recipe.train.steps, self._probe(context, release))
        release()
        with worker_errors():
            train_discriminator(self.module.to(context.device), self.assembly, real, fake, context, observer)

    def export(self, context: Context, figures: Mapping[str, Any]) -> dict[str, Any]:
        """Measure the trained weights, write them to the run's directory, and return the results."""
        round_to_file(self.module)
        results: dict[str, Any] = {"training": dict(figures)}
        for tuples in self.measured:
            loss, config = self._loss_of(tuples), self._at_once.train
            measured = discriminator_results(self.module, loss, tuples.real, self.assembly, config)
            results["heldout"] = measured
            if measured["interaction"] < ADDITIVE:
                context.say(
                    f"warning: interaction {measured['interaction']:.2g}: what this discriminator says of one modality "
                    "does not depend on the other, so it cannot align them"
                )
        self._export(context.directory.weights, results)
        return results

    def _export(self, path: Path, results: Mapping[str, Any]) -> None:
        captioned = self.captions is not None
        export_discriminator(self.module, self.assembly, self.recipe, path, results, captioned=captioned)

    def _loss_of(self, tuples: Tuples) -> Loss:
        return self._loss(tuples.real, tuples.fake, self.batch)

    def _probe(self, context: Context, done: Callable[[], None]) -> Probe:
        """Return what is done with the discriminator while it is trained; `done` follows each preview."""
        heldout = self.dataset.split("heldout") if self.measured else None
        preview = previews_of(self.module, self.assembly, heldout, context, done)
        losses = [(tuples.real, self._loss_of(tuples)) for tuples in self.measured]
        return discriminator_probe(self.module, self.assembly, self._at_once, losses, self._export, preview)

    @property
    def _at_once(self) -> Recipe:
        """Return the recipe with no more tuples at once than in training: what fitted into memory there fits again."""
        return replace(self.recipe, train=replace(self.recipe.train, batch_size=self.batch, accumulate=1))

    @property
    def _reads_stored_rows(self) -> bool:
        return bool(self.recipe.train.bank) or isinstance(self.dataset, CachedData)

    def _heldout_tuples(self, context: Context) -> list[Tuples]:
        """Return what the trained weights are measured on, nothing with a remark where there is none."""
        heldout = heldout_of(self.dataset, context)
        if heldout is None or not self._has_texts(heldout, context):
            return []
        real = real_tuples(self.assembly, heldout, self._measured_clips, context)
        # Held-out tuples re-paired are fakes for anyone but a model that makes several modalities together; with texts,
        # which few of so few clips share, they are what they are in training.
        own = bool(self.captions) or any(len(base.plan.modalities) > 1 for base in self.assembly.bases)
        return [Tuples(real, fake_tuples(self.assembly, real, context, heldout=True) if own else None)]

    def _has_texts(self, heldout: SplitDataset, context: Context) -> bool:
        """Return whether held-out clips have texts where training had; print a note where not."""
        if self.captions is None:
            return True
        if (captions := training_captions(self.assembly, heldout, self._measured_clips)) is not None:
            for line in unread_lines(self.assembly, captions.texts, "held-out caption"):
                context.say(f"warning: {line}")
            return True
        context.say("note: nothing is measured on held-out clips: none of them has a text")
        return False

    @property
    def _measured_clips(self) -> int:
        bank = self.recipe.train.bank
        return min(CLIPS, bank or CLIPS) if self.captions or self._reads_stored_rows else 0

    def _loss(self, real: BatchSource, fake: FakeSource | None, batch: int) -> Loss:
        return discriminator_loss(self.module, self.assembly, self.recipe, real, fake, batch)


def discriminator_job(context: Context) -> DiscriminatorJob:
    """Build models and open data.

    Raises:
        UsageError: no discriminator, a base model without weights, or sizes that do not fit.
        DataError: weights or data are missing or damaged.
    """
    recipe = context.recipe
    if recipe.discriminator is None:
        raise UsageError(f"recipe {recipe.name} has no discriminator to train")
    require_files(recipe, discriminator=False)
    require_initial(recipe)
    # Before models are loaded: what is wrong with data mostly shows in their index.
    checked = check_data(recipe)
    assembly = assemble(recipe, context.device, DTYPES[recipe.train.dtype], with_discriminator=False)
    require_predictions(assembly.models, "trained beside")
    if recipe.data is None or getattr(checked, "captioned", None) is False:
        require_none_shown(assembly, getattr(checked, "report", ()), context.say)
    if recipe.train.fakes != "shuffled":
        require_steps(assembly, recipe.sample)
    require_fakes_fit(recipe, assembly, context.batch)
    module = _untrained(recipe, assembly)
    dataset = open_data(recipe, request_of(recipe), assembly, context, checked)
    job = DiscriminatorJob(recipe, assembly, module, dataset, context.batch)
    require_captions(assembly, job.captions)
    if job.captions:
        require_an_end(recipe, dataset.split("train").length)
        require_texts_fit(recipe, assembly, job.captions, context.batch)
    for line in caption_notes(recipe, assembly, job.captions, dataset.split("train")):
        context.say(line)
    return job


def train_discriminator(
    module: nn.Module,
    assembly: Assembly,
    real: BatchSource,
    fake: FakeSource | None,
    context: Context,
    observer: Observer | None = None,
) -> None:
    """Train a discriminator in place; it ends holding its averaged weights."""
    loss = discriminator_loss(module, assembly, context.recipe, real, fake, context.batch)
    fit(module, loss, context, STAGE, context.recipe.train.steps, observer)


def discriminator_loss(
    module: nn.Module, assembly: Assembly, recipe: Recipe, real: BatchSource, fake: FakeSource | None, batch: int
) -> Loss:
    """Return the loss of one step of `batch` tuples; without a source of fakes, real tuples are re-paired."""
    config, bases, device = recipe.train, assembly.bases, assembly.device
    shares = shares_of(bases, config.given_shares)
    given = (config.given_fraction, shares, config.given_shift)
    sampler = LevelSampler(bases, assembly.coupling, config.noise_levels, *given)
    groups = 1 if fake else groups_of(real, config, len(assembly.modalities), batch)
    each, dtype = max(batch // groups, 1), DTYPES[config.dtype]
    conditions = Conditions(assembly, encoded_of(real))

    def plain(noisy: NoisyBatch) -> Prediction:
        models = conditioned(bases, noisy.conditions)
        return predict_bases(models, noisy.states, noisy.levels, unguided_scales(noisy.states), dtype)

    predict = Compiling(_say_once)(plain) if config.compile else plain

    def seen(batch: Batch, levels: Mapping[str, Levels], generator: torch.Generator) -> NoisyBatch:
        return replace(noised(batch, levels, generator), conditions=conditions.of(batch.texts))

    def loss(generator: torch.Generator) -> tuple[Tensor, Mapping[str, float]]:
        # The order of the draws is part of what a seed means: another one would end in other weights.
        clean = real(each * groups, generator).to(device)
        wrong = fake(clean, generator).to(device) if fake else None
        levels = repeated(sampler.draw(each, generator), groups)
        noisy = seen(clean, levels, generator)
        noisy_wrong = seen(wrong, levels, generator) if wrong else None
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            return joint_losses(module, predict, noisy, noisy_wrong, recipe.sample.window, config, groups)

    return loss


def _keep() -> None:
    """Free nothing: clips are encoded at every step."""


def _say_once(text: str) -> None:
    if ranks_of().first:
        console.note(text)


def _untrained(recipe: Recipe, assembly: Assembly) -> nn.Module:
    component = recipe.discriminator
    assert component is not None  # the first thing that was looked at
    # Seeded here and nowhere else: initialisation is the only use of the global generator.
    torch.manual_seed(recipe.train.seed)
    module = build_discriminator(component, assembly.shapes, assembly.pooled).to(assembly.device)
    if recipe.train.init is not None:
        _say_once(start_from(recipe.train.init, component.spec.name, module))
    twice = recipe.train.lambda_denoise > 0
    try_discriminator(component.spec, module, assembly.shapes, assembly.pooled, twice=twice)
    return module


def _blank(shapes: Mapping[str, tuple[int, ...]], *, with_texts: bool) -> BatchSource:
    def draw(batch: int, generator: torch.Generator) -> Batch:
        texts = {m: [""] * batch for m in shapes} if with_texts else {}
        return Batch({m: torch.zeros(batch, *shape) for m, shape in shapes.items()}, texts)

    return draw
