"""`mmdisco eval`."""

from pathlib import Path
from typing import Annotated

import typer

from mmdisco_cli.commands.options import EvalOptions
from mmdisco_cli.commands.parameters import JsonOption, OutOption, RecipeOption, SetOption


def command(
    recipe: RecipeOption,
    samples: Annotated[
        Path | None, typer.Option("--samples", metavar="DIR", help="Samples to measure; drawn where not given.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", metavar="DIR", help="Real clips to measure against.")
    ] = None,
    metrics: Annotated[str, typer.Option("--metrics", metavar="A,B", help="Only these measures.")] = "",
    out: OutOption = None,
    settings: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Measure samples against real data."""
    from mmdisco_cli.recipe import load

    loaded = load(recipe, settings or ())
    from mmdisco_cli.evaluation.run import evaluate

    names = tuple(name.strip() for name in metrics.split(",") if name.strip())
    evaluate(loaded, EvalOptions(samples=samples, reference=reference, metrics=names, out=out, json=json))
