"""`mmdisco convert`."""

from pathlib import Path
from typing import Annotated

import typer

from mmdisco_cli.run.options import ConvertOptions


def command(
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="A checkpoint of another project: one file.")],
    destination: Annotated[Path, typer.Argument(metavar="DESTINATION", help="Where to write it.")],
    format: Annotated[  # noqa: A002 - the parameter is the option's name
        str | None, typer.Option("--format", metavar="NAME", help="What the source is; detected by default.")
    ] = None,
) -> None:
    """Convert checkpoints of other projects into self-describing files."""
    from mmdisco_cli.conversion.run import convert

    convert(ConvertOptions(source, destination, format))
