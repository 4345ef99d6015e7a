"""`mmdisco recipes ls|cat|copy`."""

from pathlib import Path
from typing import Annotated

import typer

from mmdisco_cli.commands.parameters import JsonOption
from mmdisco_cli.errors import UsageError
from mmdisco_cli.run.console import record, result
from mmdisco_cli.run.options import path_at_home

app = typer.Typer(rich_markup_mode=None, help="List, show and copy the packaged recipes.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A packaged recipe, or a file.")]


@app.command("ls")
def ls(json: JsonOption = False) -> None:
    """List the packaged recipes."""
    from mmdisco_cli.recipes.recipe import packaged
    from mmdisco_cli.recipes.yaml_nodes import lookup, read_tree

    found = packaged()
    width = max(map(len, found)) + 2
    for name, path in found.items():
        node = lookup(read_tree(path), "summary")
        summary = str(node.value) if node else ""
        if json:
            record({"name": name, "summary": summary, "path": str(path)})
        else:
            result(f"{name:<{width}}{summary}".rstrip())


@app.command("cat")
def cat(name: NameArgument) -> None:
    """Print a recipe as it is written."""
    from mmdisco_cli.recipes.recipe import find
    from mmdisco_cli.recipes.yaml_nodes import read_text

    result(read_text(find(name)).rstrip("\n"))


@app.command("copy")
def copy(
    name: NameArgument,
    destination: Annotated[
        Path | None, typer.Argument(metavar="[DESTINATION]", help="File or folder; here by default.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
) -> None:
    """Copy a recipe to edit it, and print where it went."""
    from mmdisco_cli.recipes.recipe import find

    source = find(name)
    target = path_at_home(destination or Path())
    target = target / source.name if target.is_dir() else target
    if target.exists() and not overwrite:
        raise UsageError(f"{target}: exists (--overwrite replaces it)")
    target.write_bytes(source.read_bytes())
    result(str(target))
