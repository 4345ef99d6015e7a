"""`mmdisco info`."""

from pathlib import Path
from typing import Annotated

import typer

from mmdisco_cli.commands.parameters import JsonOption
from mmdisco_cli.errors import UsageError, did_you_mean
from mmdisco_cli.run.console import record, result


def complete_pages(incomplete: str) -> list[str]:
    """Return the pages that a shell may complete a name to."""
    return [name for name in ("list", *_pages()) if name.startswith(incomplete)]


def command(
    docs: Annotated[
        str | None,
        typer.Option(
            "--docs",
            metavar="NAME",
            help="Print a page of the documentation; list: their names.",
            autocompletion=complete_pages,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Print versions, devices, plugins and paths; or a page of the documentation."""
    if docs is not None:
        _print_page(docs)
        return
    from mmdisco_cli.recipes.recipe import packaged_folder
    from mmdisco_cli.registry.plugins import load_registry
    from mmdisco_cli.run.environment import devices, environment, paths

    statuses = load_registry().statuses
    found = {**environment(statuses), "devices": devices(), "paths": paths(packaged_folder())}
    if json:
        record(found)
        return
    for section, content in found.items():
        if content is None:  # no commit, where it is installed
            continue
        if isinstance(content, dict):
            result(f"{section}:")
            for name, value in content.items():
                result(f"  {name}: {value}")
        else:
            result(f"{section}: {', '.join(content) if isinstance(content, list) else content}")


def _pages() -> dict[str, Path]:
    return {path.stem: path for path in sorted((Path(__file__).parent.parent / "docs").glob("*.md"))}


def _print_page(name: str) -> None:
    pages = _pages()
    if name == "list":
        width = max(map(len, pages)) + 2
        for page, path in pages.items():
            result(f"{page:<{width}}{_title(path)}")
        return
    if name not in pages:
        raise UsageError(f"--docs {name}: no such page{did_you_mean(name, [*pages, 'list'])}")
    result(pages[name].read_text(encoding="utf-8").rstrip("\n"))


def _title(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").rstrip("\n")
