"""The libraries that fetch: imported when something is fetched, and not before."""

from importlib import import_module
from typing import Any

from mmdisco_cli.errors import DataError


def require(module: str, package: str) -> Any:
    """Return a module; raise DataError, with the command that installs its package, where there is none."""
    try:
        return import_module(module)
    except ImportError as error:
        raise DataError(f"downloading takes {package}: pip install {package}") from error


def one_line(error: BaseException) -> str:
    """Return what a library says of a failure, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
