"""Import and call what builds an entry of a recipe, with errors that name the part."""

from collections.abc import Iterator
from contextlib import contextmanager

from mmdisco_cli.errors import PluginError, UsageError
from mmdisco_cli.hookspecs import Factory, Spec


def import_factory(spec: Spec) -> Factory:
    """Import and return the function that builds an entry; raise PluginError where that fails."""
    try:
        return spec.factory()
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{spec.name!r} cannot be imported: {error}") from error


@contextmanager
def recipe_errors(part: str) -> Iterator[None]:
    """Raise UsageError, naming the part of the recipe, for a ValueError of the code that builds it."""
    try:
        yield
    except ValueError as error:
        raise UsageError(f"{part}: {error}") from error
