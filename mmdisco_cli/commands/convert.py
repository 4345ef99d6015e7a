"""`mmdisco convert`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mmdisco_cli.commands.parameters import (
    DownloadOption,
    SetOption,
    allow_downloads,
    load_recipe,
    named_path,
    parse_shard,
)
from mmdisco_cli.errors import UsageError
from mmdisco_cli.run.options import ConvertOptions

if TYPE_CHECKING:
    from mmdisco_cli.recipes.schema import Recipe


def command(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", parser=named_path, help="A checkpoint of another project: one file. With --recipe, clips."
        ),
    ],
    destination: Annotated[Path, typer.Argument(metavar="DESTINATION", parser=named_path, help="Where to write it.")],
    format: Annotated[  # noqa: A002 - the parameter is the option's name
        str | None, typer.Option("--format", metavar="NAME", help="What the source is; detected by default.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option("--recipe", metavar="NAME|PATH", help="Encode clips for this recipe, into a cache.")
    ] = None,
    settings: SetOption = None,
    shard: Annotated[
        str | None, typer.Option("--shard", metavar="I/N", help="Of a cache, only every N-th shard from the I-th.")
    ] = None,
    download: DownloadOption = False,
) -> None:
    """Convert checkpoints of other projects into self-describing files, or clips into a cache to train from.

    A cache holds latents and encoded texts, and takes the place of the clips as data.path. The same command again goes
    on. With --shard it can be made by many jobs, of which the last one to finish completes it.
    """
    options = ConvertOptions(source, destination, format, parse_shard(shard))
    if recipe is None:
        if given := [name for name, value in (("--set", settings), ("--shard", shard)) if value]:
            raise UsageError(f"{' and '.join(given)}: of a cache of clips, which takes a --recipe to encode them for")
        from mmdisco_cli.conversion.run import convert

        convert(options)
        return
    if format is not None:
        raise UsageError("--format: of a checkpoint; the layout of clips is given as --set data.format=NAME")
    allow_downloads(download)
    loaded = _for_data(recipe, settings or [], options.source)
    from mmdisco_cli.conversion.caching import convert_clips

    convert_clips(loaded, options)


def _for_data(recipe: str, settings: list[str], source: Path) -> "Recipe":
    """Return a recipe with the source as its data, which is `clips` where the recipe names none."""
    loaded = load_recipe("convert", recipe, settings)
    if loaded.data is not None and not hasattr(loaded.data.options, "path"):
        raise UsageError(
            f"recipe {loaded.name}: its data set {loaded.data.name} has no data.path to read clips from; "
            "`mmdisco train` encodes it by itself"
        )
    named = [] if loaded.data is not None else ["data.name=clips"]
    return load_recipe("convert", recipe, [*settings, *named, f"data.path={json.dumps(str(source))}"])
