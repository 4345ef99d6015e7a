"""The options that several commands share, each spelt once."""

from pathlib import Path
from typing import Annotated

import typer

RecipeOption = Annotated[
    str, typer.Option("--recipe", metavar="NAME|PATH", help="A recipe file, or the name of a packaged recipe.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override one value of the recipe, as in sample.steps=20."),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Where to write; runs/RECIPE/... by default.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, one object a line.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
