"""Protocol `gaussians-ablation`: one discriminator trained by each loss alone, by both, and over their balance."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmdisco_cli.assembly import Assembly, LoadedDiscriminator, assemble, build_discriminator
from mmdisco_cli.devices import choose_device
from mmdisco_cli.errors import UsageError
from mmdisco_cli.evaluation.protocol import Protocol, Report
from mmdisco_cli.evaluation.tables import align, cell
from mmdisco_cli.measures.names import direction
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run.distribution import Ranks
from mmdisco_cli.run.files import write_json
from mmdisco_cli.run.options import EvalOptions
from mmdisco_cli.run.progress import progress
from mmdisco_cli.run.signals import SignalFlag
from mmdisco_cli.toys.gaussians.closeness import CLOSENESS, sample_metrics
from mmdisco_cli.toys.gaussians.data import Gaussians
from mmdisco_cli.toys.gaussians.protocol import drawn, points_of
from mmdisco_cli.toys.gaussians.score import score_errors, split
from mmdisco_cli.training.batch import Batch
from mmdisco_cli.training.directory import RunDirectory, training_fingerprint
from mmdisco_cli.training.discriminator import train_discriminator
from mmdisco_cli.training.loop import Context
from mmdisco_cli.training.metrics import StepCallback

METRICS = ("variants",)


@dataclass(frozen=True)
class Variant:
    """One row: the weights of the two losses, and the options of the discriminator that differ from the recipe's."""

    name: str
    disc: float
    denoise: float
    options: Mapping[str, Any] = field(default_factory=dict)

    def of(self, recipe: Recipe) -> Recipe:
        """Return the recipe with this row's settings; raise UsageError where its discriminator is not `mlp`."""
        component = recipe.discriminator
        if component is None or component.spec.name != "mlp":
            raise UsageError("discriminator: gaussians-ablation varies the options of mlp")
        train = replace(recipe.train, lambda_disc=self.disc, lambda_denoise=self.denoise)
        options = replace(component.options, **self.options)
        return replace(recipe, train=train, discriminator=replace(component, options=options))


VARIANTS = (
    Variant("L_disc alone", 1, 0),
    Variant("L_denoise alone", 0, 1),
    *(Variant(f"both, lambda {weight:g}", 1, weight) for weight in (0.25, 1, 4, 16)),
    Variant("both, lambda 4, no Fourier features", 1, 4, {"frequencies": 0}),
)


def build() -> Protocol:
    """Return the protocol."""
    return Protocol(METRICS, evaluate, takes_samples=False)


def evaluate(recipe: Recipe, options: EvalOptions, ranks: Ranks) -> Report | None:
    """Train every variant from the recipe's seed and measure each; the same command again takes up what is trained.

    Raises:
        UsageError: the recipe's data are not gaussians, or its discriminator is not `mlp`.
        Stopped: a signal came; what was trained is kept.
    """
    if not ranks.first:
        return None
    points, out, steps = points_of(recipe), options.out or Path(), recipe.train.steps
    alone = assemble(recipe, choose_device(), with_discriminator=False)
    stop, found = SignalFlag(), {}
    with stop.listening(), progress("training", len(VARIANTS) * steps) as advance:
        for place, variant in enumerate(VARIANTS):

            def report(step: int, steps: int, figures: Mapping[str, float], place: int = place) -> None:
                advance(place * steps + step, figures)

            module = trained(variant.of(recipe), alone, points, out / f"variant-{place}", stop, report)
            found[variant.name] = measure(module, recipe, alone, points)
            path = write_json(out / "ablation.json", found)
    protocol = {"seed": recipe.train.seed, "steps": steps, "batch_size": recipe.train.batch_size}
    return Report(recipe.eval.n, {"variants": found}, protocol, table(found), [path])


def trained(
    recipe: Recipe, alone: Assembly, points: Gaussians, directory: Path, stop: SignalFlag, report: StepCallback
) -> nn.Module:
    """Return the recipe's discriminator, trained on fresh points without end beside the backbones of `alone`."""
    if recipe.discriminator is None:
        raise UsageError("discriminator: is missing")
    torch.manual_seed(recipe.train.seed)
    module = build_discriminator(recipe.discriminator, alone.shapes, alone.pooled).to(alone.device)

    def real(count: int, generator: torch.Generator) -> Batch:
        return Batch(split(points.mixture.draw(count, generator), points.modalities))

    context = Context(
        RunDirectory(directory, recipe),
        alone.device,
        stop=stop,
        progress=lambda stage: report,
        fingerprint=training_fingerprint(recipe),
    )
    train_discriminator(module, alone, real, None, context)
    return module.requires_grad_(False)


def measure(module: nn.Module, recipe: Recipe, alone: Assembly, points: Gaussians) -> dict[str, Any]:
    """Return the errors of a discriminator's score and how good the samples are that it guides."""
    assembly = replace(alone, discriminator=LoadedDiscriminator(module, {}, Path(), ""))
    errors = score_errors(assembly, points.mixture, recipe.sample, recipe.eval.seed).metrics(recipe.eval.seed)
    rows = {"guided": drawn(assembly, recipe.sample, recipe.eval)}
    found = sample_metrics(rows, points, recipe.eval.seed, CLOSENESS)
    return {
        "residual_error": errors["residual_error"],
        "joint_error": errors["joint_error"]["guided"],
        **{name: values["guided"] for name, values in found.items()},
    }


def table(found: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a line for each variant."""
    names = list(next(iter(found.values())))
    heads = [f"{name.replace('_', ' ')} {direction(name).split()[0]}" for name in names]
    return align([["trained by", *heads], *([name, *(cell(row[key]) for key in names)] for name, row in found.items())])
