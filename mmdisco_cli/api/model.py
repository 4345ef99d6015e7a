"""A recipe with its models, as an object: the same code as the commands, with tensors in place of files."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from warnings import warn

import torch
from torch import Tensor, nn

from mmdisco_cli.api import arguments
from mmdisco_cli.api.components import with_backbones, with_data
from mmdisco_cli.api.sample import Sample, write_folder
from mmdisco_cli.api.tuples import as_data
from mmdisco_cli.assembly import Assembly, LoadedDiscriminator, assemble
from mmdisco_cli.devices import DTYPES, choose_device
from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.diffusion.whole import runs_whole
from mmdisco_cli.errors import UsageError
from mmdisco_cli.evaluation.run import measure
from mmdisco_cli.recipes.from_checkpoint import checkpoint_file, is_checkpoint, recipe_of
from mmdisco_cli.recipes.recipe import load as load_recipe
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run.options import EvalOptions, SampleOptions, TrainOptions
from mmdisco_cli.sampling.job import SampleJob, build_assembly, config_of, plan_job
from mmdisco_cli.sampling.run import DrawnBatch, draw_batch, finite_or_none, in_batches
from mmdisco_cli.tensors.naming import weights_fingerprint
from mmdisco_cli.training.run import TrainCallback, train_recipe


@dataclass(frozen=True)
class Step:
    """Solver step `number` of `steps`, counted from 1, with the states and the predicted x_0 (B, ...) by modality.

    A step that `sample.joint_steps` repeats is reported every time, with the same number.
    Models that only run as a whole have neither states nor x_0.
    """

    number: int
    steps: int
    states: Mapping[str, Tensor]
    x0: Mapping[str, Tensor]


@dataclass(frozen=True)
class JointModel:
    """The models of a recipe, made by `load`; `results` are the figures of the training that it comes from, if any."""

    recipe: Recipe
    device: torch.device
    discriminator: nn.Module | None = None
    results: Mapping[str, Any] | None = None

    def __repr__(self) -> str:
        """Return which recipe it is and what it makes."""
        return f"JointModel({self.recipe.name}: {self.recipe.summary}; {', '.join(self.recipe.modalities)})"

    def sample(
        self,
        n: int = 1,
        *,
        seed: int = 0,
        prompts: str | Sequence[str] | Mapping[str, str | Sequence[str]] | None = None,
        given: Mapping[str, Tensor | str | Path] | None = None,
        independent: bool = False,
        batch_size: int | None = None,
        callback: Callable[[Step], None] | None = None,
    ) -> list[Sample]:
        """Return n samples, the same as those of `mmdisco sample` with the same settings.

        `prompts` are used in turn, for all modalities or by modality. `given` holds by modality media of one sample or
        of several, (*media_shape) or (N, *media_shape), or what `--given` takes; the others are sampled. `independent`
        turns guidance off. `callback` is called after every solver step and may raise to stop, which is raised here.

        Raises:
            UsageError, DataError, PluginError, DeviceError: as for `mmdisco sample`.
        """
        options = SampleOptions(
            n=arguments.whole("n", n, 1),
            seed=arguments.whole("seed", seed, 0),
            **arguments.prompts(prompts, self.recipe.modalities),
            given=arguments.given(given, self.recipe.modalities),
            independent=independent,
            batch_size=None if batch_size is None else arguments.whole("batch_size", batch_size, 1),
            device=str(self.device),
        )
        callback = arguments.called("callback", callback)
        job = plan_job(self.recipe, options, self._alone if independent else self._joined)
        for text in job.notes:
            warn(text, stacklevel=2)
        return [
            sample
            for batch in in_batches(job.indices, job.config.batch_size)
            for sample in _drawn(job, batch, callback)
        ]

    def train(
        self,
        data: Any = None,
        *,
        heldout: Any = None,
        out: str | Path | None = None,
        fresh: bool = False,
        callback: TrainCallback | None = None,
    ) -> "JointModel":
        """Train what `train.target` names, or resume an interrupted training; return the model with the new weights.

        `data` is a torch Dataset of tuples, see `api.tuples.TupleData`, in place of the recipe's data, and `heldout`
        one to validate on, by default every tenth item of `data`. `out` is the folder of the run, by default
        runs/RECIPE/train; `fresh` starts over there. `callback` is called after every step with the title of the
        stage, the step, the number of steps, and the figures.

        Raises:
            UsageError, DataError, PluginError, DeviceError: as for `mmdisco train`.
            Stopped: a signal came; the state is saved.
        """
        recipe = self.recipe if data is None else with_data(self.recipe, as_data(data, heldout))
        options = TrainOptions(out=None if out is None else arguments.path("out", out), fresh=fresh)
        done = train_recipe(recipe, options, arguments.called("callback", callback))
        if done is None:
            return self
        return JointModel(_with_weights(self.recipe, done.path), self.device, None, done.results)

    def evaluate(
        self, samples: Sample | Sequence[Sample] | str | Path | None = None, *, out: str | Path | None = None,
        metrics: str | Sequence[str] = (),
    ) -> Mapping[str, Any]:  # fmt: skip
        """Evaluate `samples`, or without any eval.n new ones, and return what `mmdisco eval` writes to metrics.json.

        `samples` are objects or a folder, `out` is the folder of the report, and `metrics` the ones to compute, by
        default all of the protocol.

        Raises:
            UsageError, DataError, PluginError, DeviceError: as for `mmdisco eval`.
        """
        with TemporaryDirectory() as folder:
            if samples is not None and not isinstance(samples, str | Path):
                write_folder(Path(folder), arguments.samples("samples", samples, Sample))
                samples = folder
            options = EvalOptions(
                samples=None if samples is None else Path(samples),
                out=None if out is None else arguments.path("out", out),
                metrics=arguments.texts("metrics", metrics),
            )
            found = measure(self.recipe, options)
        return found.content if found else {}

    @cached_property
    def _alone(self) -> Assembly:
        options = SampleOptions(independent=True, device=str(self.device))
        return build_assembly(self.recipe, options, config_of(self.recipe, options))[0]

    @cached_property
    def _joined(self) -> Assembly:
        options = SampleOptions(device=str(self.device))
        config = config_of(self.recipe, options)
        if self.discriminator is None:
            return build_assembly(self.recipe, options, config)[0]
        alone = assemble(self.recipe, self.device, DTYPES[config.dtype], with_discriminator=False)
        return replace(alone, discriminator=_loaded(self.discriminator, self.recipe, self.device))


def load(
    recipe: str | Path,
    overrides: Mapping[str, Any] | None = None,
    *,
    backbones: Mapping[str, Any] | None = None,
    discriminator: nn.Module | None = None,
    device: str | torch.device | None = None,
) -> JointModel:
    """Return the models of a recipe, given by name or path; weights are loaded when they are first used.

    What `mmdisco sample --checkpoint` takes stands for the recipe too: a file of weights, its folder, or hf:OWNER/NAME.
    `overrides` are values by dotted key, such as {"sample.steps": 20}. `backbones` replaces base models, by their names
    in the recipe, by objects: a `Backbone`, or a pipeline of the kind that the recipe names there. `discriminator` is a
    trained one in memory, in place of `sample.weights`. `device` is where samples are made.

    Raises:
        UsageError, PluginError: the recipe is not found or wrong, with a line for each mistake; another argument is.
        DataError: weights, or a repository, that are not there.
        DeviceError: there is no such device.
    """
    changed = arguments.mapping("overrides", overrides)
    settings = [f"{key}={json.dumps(value, default=str)}" for key, value in changed.items()]
    if discriminator is not None and not isinstance(discriminator, nn.Module):
        raise UsageError(f"discriminator: a {type(discriminator).__name__} is not a torch.nn.Module")
    name = str(recipe)
    chosen = recipe_of(checkpoint_file(name), settings)[0] if is_checkpoint(name) else load_recipe(name, settings)
    found = with_backbones(chosen, arguments.mapping("backbones", backbones))
    return JointModel(found, choose_device(str(device) if device is not None else None), discriminator)


def _drawn(job: SampleJob, batch: Sequence[int], callback: Callable[[Step], None] | None) -> Iterator[Sample]:
    def watch(number: int, states: State, x0: State) -> None:
        if callback is not None:
            callback(Step(number, job.steps, states, x0))

    def on_step(number: int) -> None:
        # Models that only run as a whole have no `watch`.
        if callback is not None and runs_whole(job.assembly.models):
            callback(Step(number, job.steps, {}, {}))

    made = draw_batch(job, batch, on_step, watch)
    return (_sample(job, index, place, made) for place, index in enumerate(batch))


def _sample(job: SampleJob, index: int, place: int, made: DrawnBatch) -> Sample:
    media = {m: x[place].cpu() for m, x in made.media.items()} | {m: said[place] for m, said in made.texts.items()}
    latents = {m: x[place].cpu() for m, x in made.drawn.latents.items()}
    return Sample(
        index, job.options.seed, media, latents, job.assembly.modalities, job.parts,
        {m: kind.name for m, kind in job.kinds.items()}, job.prompt(index),
        finite_or_none(made.drawn.logit, place), job.config.scale, job.settings,
    )  # fmt: skip


def _with_weights(recipe: Recipe, weights: Path) -> Recipe:
    """Return the recipe with a trained discriminator, or a trained base model in place of the untrained one."""
    if recipe.train.target == "discriminator":
        return replace(recipe, sample=replace(recipe.sample, weights=str(weights)))
    made = {
        label: replace(part, options=replace(part.options, weights=str(weights)))
        if getattr(part.options, "weights", "") is None
        else part
        for label, part in recipe.backbones.items()
    }
    return replace(recipe, backbones=made)


def _loaded(module: nn.Module, recipe: Recipe, device: torch.device) -> LoadedDiscriminator:
    module = module.to(device).eval().requires_grad_(False)
    about = {"name": type(module).__name__, "given_fraction": recipe.train.given_fraction, "captions": True}
    return LoadedDiscriminator(module, about, Path(type(module).__name__), weights_fingerprint(module))
