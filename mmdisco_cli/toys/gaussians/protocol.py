"""Protocol `gaussians`: a discriminator and the samples it guides against the truth, which is known in closed form."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mmdisco_cli.assembly import Assembly, assemble
from mmdisco_cli.data.manifest import complete_rows
from mmdisco_cli.devices import choose_device
from mmdisco_cli.diffusion.coupling import coupled_grid
from mmdisco_cli.diffusion.denoise import Prediction
from mmdisco_cli.diffusion.noise import StepNoise, initial_state
from mmdisco_cli.diffusion.samplers import SAMPLERS
from mmdisco_cli.diffusion.schedules import Levels
from mmdisco_cli.discriminators.interaction import ADDITIVE
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.evaluation.discriminator import figures_in
from mmdisco_cli.evaluation.discriminator_levels import measure_levels
from mmdisco_cli.evaluation.protocol import Protocol, Report
from mmdisco_cli.evaluation.tables import cell, tabulate
from mmdisco_cli.measures.bootstrap import INTERVAL
from mmdisco_cli.measures.density import DEFINITION
from mmdisco_cli.recipes.schema import EvalConfig, Recipe, SampleConfig
from mmdisco_cli.run import console
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.run.options import EvalOptions
from mmdisco_cli.run.progress import progress
from mmdisco_cli.sampling.draw import draw, require_steps
from mmdisco_cli.toys.gaussians.closeness import METRICS as OF_SAMPLES
from mmdisco_cli.toys.gaussians.closeness import sample_metrics
from mmdisco_cli.toys.gaussians.data import Gaussians
from mmdisco_cli.toys.gaussians.mixture import Mixture
from mmdisco_cli.toys.gaussians.plot import plot
from mmdisco_cli.toys.gaussians.score import LevelErrors, columns, join, level_table, score_errors, split

SCORES = ("residual_error", "joint_error", "by_level")
OF_DISCRIMINATOR = ("interaction", "accuracy")
METRICS = (*SCORES, *OF_SAMPLES, *OF_DISCRIMINATOR)
MEASURED = 1024
"""Points on which interaction and accuracy are measured."""
ProgressCallback = Callable[[int, Mapping[str, float]], None]


def build() -> Protocol:
    """Return the protocol."""
    return Protocol(METRICS, evaluate)


def evaluate(recipe: Recipe, options: EvalOptions, ranks: Ranks) -> Report | None:
    """Measure the recipe's discriminator and the samples it guides, beside independent and exact ones, on one rank.

    Raises:
        UsageError: the recipe's data are not gaussians, or --reference is given.
        DataError: no samples of these modalities in --samples.
    """
    if options.reference is not None:
        raise UsageError("--reference: the distribution of gaussians is known, nothing is compared with files")
    if not ranks.first:
        return None
    points, config = points_of(recipe), recipe.sample
    assembly = assemble(recipe, choose_device())
    require_steps(assembly, config)
    errors = score_errors(assembly, points.mixture, config, recipe.eval.seed)
    rows = sample_rows(assembly, points.mixture, config, recipe.eval)
    if options.samples is not None:
        rows["samples"] = read_samples(options.samples, points.modalities)
    overall = errors.metrics(recipe.eval.seed)
    metrics = overall | sample_metrics(rows, points, recipe.eval.seed)
    metrics |= discriminator_metrics(assembly, points, recipe)
    chart = plot((options.out or Path()) / "scatter.png", rows, points.modalities, errors.log_snr, overall)
    loaded = assembly.discriminator
    protocol = {
        "seed": recipe.eval.seed,
        "interval": INTERVAL,
        "neighbours": DEFINITION,
        **config.solver(),
        "window": list(config.window),
        "guidance": dict(config.guidance),
        "weights": str(loaded.path) if loaded else None,
    }
    return Report(recipe.eval.n, metrics, protocol, _table(errors, metrics), [chart])


def points_of(recipe: Recipe) -> Gaussians:
    """Return the recipe's data; raise UsageError where they are not gaussians of its modalities."""
    if recipe.data is None or recipe.data.name != "gaussians":
        raise UsageError(f"eval.protocol: {recipe.eval.protocol} needs the data set gaussians")
    points = Gaussians(recipe.data.options)
    if recipe.modalities != points.modalities:
        want, have = (", ".join(names) for names in (points.modalities, recipe.modalities))
        raise UsageError(f"backbones: the data have {want}, in this order, not {have}")
    return points


def sample_rows(assembly: Assembly, mixture: Mixture, config: SampleConfig, wanted: EvalConfig) -> dict[str, Tensor]:
    """Return n samples (n, M) of the backbones alone, guided, and by the exact joint score, all from the same noise."""
    with progress("sampling", 3 * wanted.n) as advance:
        return {
            "independent": drawn(assembly, config, wanted, independent=True, show=advance),
            "guided": drawn(assembly, config, wanted, show=lambda done, f: advance(wanted.n + done, f)),
            "exact": exact_samples(assembly, mixture, config, wanted, lambda done, f: advance(2 * wanted.n + done, f)),
        }


def drawn(
    assembly: Assembly,
    config: SampleConfig,
    wanted: EvalConfig,
    *,
    independent: bool = False,
    show: ProgressCallback | None = None,
) -> Tensor:
    """Return samples (n, M) as `mmdisco sample` draws them."""

    def one(indices: Sequence[int]) -> Tensor:
        return join(draw(assembly, config, wanted.seed, indices, independent=independent).latents, assembly.shapes)

    return _in_batches(one, wanted.n, config.batch_size, show)


def exact_samples(
    assembly: Assembly, mixture: Mixture, config: SampleConfig, wanted: EvalConfig, show: ProgressCallback | None = None
) -> Tensor:
    """Return samples (n, M) of the same sampler and the same noise under the exact joint score."""
    grid = coupled_grid(assembly.bases, config.steps, assembly.coupling)
    first = {m: levels.at(0) for m, levels in grid.items()}

    def denoise(state: Mapping[str, Tensor], levels: Mapping[str, Levels]) -> Prediction:
        x = join(state, levels)
        x0, epsilon = mixture.denoise(x, *columns(levels, x))
        return Prediction(split(x0, tuple(levels)), split(epsilon, tuple(levels)))

    def one(indices: Sequence[int]) -> Tensor:
        state = initial_state(wanted.seed, indices, assembly.shapes, first, assembly.device)
        return join(SAMPLERS[config.sampler](denoise, state, grid, StepNoise(wanted.seed, indices)), grid)

    return _in_batches(one, wanted.n, config.batch_size, show)


def read_samples(folder: Path, modalities: Sequence[str]) -> Tensor:
    """Return the samples (n, M) that `mmdisco sample` left in a folder."""
    files = [folder / str(row["path"]) for row in complete_rows(folder)]
    tensors = [load_file(file) for file in files if file.suffix == ".safetensors"]
    if not tensors or any(m not in tensor for tensor in tensors for m in modalities):
        raise DataError(f"{folder}: holds no samples of {', '.join(modalities)}")
    return torch.stack([torch.cat([tensor[m] for m in modalities]) for tensor in tensors])


def discriminator_metrics(assembly: Assembly, points: Gaussians, recipe: Recipe) -> dict[str, Any]:
    """Return the discriminator's interaction and accuracy where it guides, with their intervals, and at each level."""
    clean = points.split("heldout").media(range(MEASURED), points.modalities)
    levels = measure_levels(assembly, clean, recipe.eval.seed)
    found = figures_in(levels, recipe.sample.window, recipe.eval.seed)
    interaction = found["interaction"]["value"]
    if interaction is not None and interaction < ADDITIVE:
        console.warn(f"the discriminator is additive in effect (interaction {interaction:.1e}): it can align nothing")
    return {name: found[name] for name in OF_DISCRIMINATOR}


def _table(errors: LevelErrors, metrics: Mapping[str, Any]) -> list[str]:
    shown = ", ".join(f"{name} {cell(metrics[name])}" for name in OF_DISCRIMINATOR)
    return [*level_table(errors), "", *sample_table(metrics), "", f"discriminator: {shown}"]


def sample_table(metrics: Mapping[str, Any]) -> list[str]:
    """Return how close each row of samples comes to the true distribution."""
    rows = [row for row in metrics["mass_on_modes"] if row != "difference"]
    return tabulate(metrics, [name for name in OF_SAMPLES if name != "mode_share"], rows)


def _in_batches(one: Callable[[Sequence[int]], Tensor], n: int, size: int, show: ProgressCallback | None) -> Tensor:
    parts = []
    for start in range(0, n, size):
        indices = range(start, min(start + size, n))
        parts.append(one(indices).cpu())
        if show is not None:
            show(indices.stop, {})
    return torch.cat(parts)
