"""`mmdisco train`."""

from pathlib import Path
from typing import Annotated

import typer

from mmdisco_cli.commands.parameters import (
    DownloadOption,
    DryRunOption,
    JsonOption,
    OutOption,
    RecipeOption,
    SetOption,
    allow_downloads,
    load_recipe,
    named_path,
)
from mmdisco_cli.run.options import TrainOptions


def command(
    recipe: RecipeOption,
    out: OutOption = None,
    settings: SetOption = None,
    bank: Annotated[
        Path | None,
        typer.Option(
            help="Folder of encoded clips and fakes, which runs on the same data can share.",
            metavar="DIR",
            parser=named_path,
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin again where a run could be resumed.")] = False,
    download: DownloadOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Train the recipe's discriminator or base model.

    The same command again resumes. With a larger train.steps a training goes on from the step that it had reached, on
    the learning-rate schedule of the larger number and without another warm-up.
    """
    allow_downloads(download and not dry_run)
    loaded = load_recipe("train", recipe, settings)
    if download and not dry_run and loaded.train.target == "discriminator":
        from mmdisco_cli.conversion.fetched import fetch_missing

        fetch_missing(loaded, discriminator=False)
    from mmdisco_cli.training.run import train

    train(loaded, TrainOptions(out=out, bank=bank, fresh=fresh, dry_run=dry_run, json=json))
