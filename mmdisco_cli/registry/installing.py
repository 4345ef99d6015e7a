"""How a plugin of this project is installed, and which one provides what, for every line that says so."""

import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

_LIST = Path(__file__).with_name("our_plugins.toml")


def how_to_install(distribution: str) -> str:
    """Return the command that installs one of the project's plugins, and where it runs.

    It names a path: the project's names are on no index, so that one by itself would install whatever somebody else
    puts there under it.
    """
    return f"in a clone of mmdisco: pip install ./plugins/{distribution}"


def providers(kind: str, name: str | None = None) -> list[str]:
    """Return the project's plugins, installed or not, that provide the entry `name`, or any entry, of a kind."""
    return [
        distribution
        for distribution, entries in _our_plugins().items()
        if kind in entries and (name is None or name in entries[kind])
    ]


def entries_of(distribution: str) -> Mapping[str, Sequence[str]]:
    """Return the names of all entries of one of the project's plugins, by kind."""
    return _our_plugins()[distribution]


@cache
def _our_plugins() -> Mapping[str, Mapping[str, Sequence[str]]]:
    return tomllib.loads(_LIST.read_text(encoding="utf-8"))
