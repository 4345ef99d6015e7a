"""Libraries that only some layouts need."""

from importlib import import_module
from typing import Any

from mmdisco_cli.errors import DataError


def require(module: str) -> Any:
    """Return a module of the extra `data`; raise DataError, saying how to install it, where it is missing."""
    try:
        return import_module(module)
    except ImportError as error:
        name = module.split(".")[0]
        raise DataError(f"this layout is read with {name}: in a clone of mmdisco: pip install '.[data]'") from error
