"""`mmdisco plugins`."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mmdisco_cli.commands.parameters import JsonOption
from mmdisco_cli.commands.reference import key_lines
from mmdisco_cli.errors import PluginError, did_you_mean
from mmdisco_cli.run.console import record, result

if TYPE_CHECKING:
    from mmdisco_cli.hookspecs import Spec
    from mmdisco_cli.registry.plugin import Plugin
    from mmdisco_cli.registry.plugins import Registry


def complete_entries(incomplete: str) -> list[str]:
    """Return the names of distributions and entries that a shell may complete a word to."""
    from mmdisco_cli.registry.plugins import load_registry

    plugins = load_registry().plugins
    names = [name for one in plugins for name in (one.distribution, *(spec.name for _, spec in one.entries))]
    return [name for name in dict.fromkeys(names) if name.startswith(incomplete)]


def command(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="[NAME]",
            help="An entry, to print its options; or a distribution.",
            autocompletion=complete_entries,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the plugins and what they provide, and why one does not load; or print the options of one entry."""
    from mmdisco_cli.registry.plugins import load_registry

    registry = load_registry()
    chosen = [plugin for plugin in registry.plugins if name in (None, plugin.distribution)]
    if chosen:
        for plugin in chosen:
            _list(plugin, json)
        return
    entries = list(_named(registry, name or ""))
    if not entries:
        known = [spec.name for plugin in registry.plugins for _, spec in plugin.entries]
        raise PluginError(f"no plugin provides {name!r}{did_you_mean(name or '', known)}{registry.troubles}")
    for number, (distribution, kind, spec) in enumerate(entries):
        if number and not json:
            result("")
        _describe(distribution, kind, spec, json)


def _list(plugin: "Plugin", json: bool) -> None:
    entries = [_about(kind, spec) for kind, spec in plugin.entries]
    if json:
        head = {"distribution": plugin.distribution, "version": plugin.version, "status": plugin.status}
        record({**head, "cause": plugin.cause or None, "entries": entries})
        return
    cause = f": {plugin.cause}" if plugin.cause else ""
    result(f"{plugin.distribution} {plugin.version} {plugin.status}{cause}")
    width = max([20, *(len(spec.name) + 2 for _, spec in plugin.entries)])
    for entry in entries:
        result(f"  {entry['kind']:<14}{entry['name']:<{width}}{entry['summary']}")


def _about(kind: str, spec: "Spec") -> dict[str, Any]:
    modalities = list(getattr(spec, "modalities", ()))
    return {"kind": kind, "name": spec.name, "summary": spec.summary, "modalities": modalities}


def _named(registry: "Registry", name: str) -> Iterator[tuple[str, str, "Spec"]]:
    """Yield distribution, kind and description of each entry called NAME or DISTRIBUTION:NAME."""
    for plugin in registry.plugins:
        for kind, spec in plugin.entries:
            if name in (spec.name, f"{plugin.distribution}:{spec.name}"):
                yield plugin.distribution, kind, spec


def _describe(distribution: str, kind: str, spec: "Spec", json: bool) -> None:
    from mmdisco_cli.recipes.reference import option_keys, snippet

    keys, written = option_keys(spec), snippet(kind, spec)
    if json:
        record(
            {"distribution": distribution, **_about(kind, spec), "options": [asdict(k) for k in keys], "usage": written}
        )
        return
    modalities = ", ".join(getattr(spec, "modalities", ()))
    result(f"{kind} {spec.name} of {distribution}: {spec.summary}{f' ({modalities})' if modalities else ''}")
    for line in key_lines(keys):
        result(f"  {line}")
    result("")
    for line in written.splitlines():
        result(f"    {line}")
