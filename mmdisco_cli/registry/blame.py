"""Which plugin an error came out of: known by the modules that the traceback passes through.

So nothing of a plugin has to be wrapped: hooks, factories, base models, discriminators and data sets are all found.
"""

import sys
from traceback import walk_tb

from mmdisco_cli.errors import ExitCode, PluginError, describe, exit_code_of

_OWNERS: dict[str, str] = {}
"""Plugins, as "name version", by their modules and packages."""
_SHARED = frozenset({"mmdisco_cli", "torch", "torchvision", "torchaudio", "numpy", *sys.stdlib_module_names})
"""Packages that everyone calls, whoever names a class of theirs."""


def claim(module: str, plugin: str) -> None:
    """Note that a module, or a package with all that is in it, is a plugin's."""
    if plugin and module and module.partition(".")[0] not in _SHARED:
        _OWNERS[module] = plugin


def owner_of(thing: object) -> str:
    """Return the plugin that something's class is defined in, as "name version"; empty where it is none's."""
    return _owner_of_module(type(thing).__module__)


def blamed(error: BaseException) -> PluginError | None:
    """Return what to say in place of an unexpected error from the code of a plugin, else None."""
    if exit_code_of(error) != ExitCode.UNEXPECTED or isinstance(error, PluginError):
        return None
    names = [str(frame.f_globals.get("__name__", "")) for frame, _ in walk_tb(error.__traceback__)]
    owners = [owner for name in names if (owner := _owner_of_module(name))]
    return PluginError(f"plugin {owners[-1]}: {describe(error)}") if owners else None


def _owner_of_module(name: str) -> str:
    return _OWNERS.get(name) or _OWNERS.get(name.partition(".")[0], "")
