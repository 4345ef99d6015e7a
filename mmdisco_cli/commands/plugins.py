"""`mmdisco plugins`."""

from mmdisco_cli.commands.parameters import JsonOption
from mmdisco_cli.run.console import record, result


def command(json: JsonOption = False) -> None:
    """List the plugins and what they provide, and why one does not load."""
    from mmdisco_cli.registry.plugins import load_registry

    for plugin in load_registry().plugins:
        entries = [
            {
                "kind": kind,
                "name": spec.name,
                "summary": spec.summary,
                "modalities": list(getattr(spec, "modalities", ())),
            }
            for kind, spec in plugin.entries
        ]
        if json:
            record(
                {
                    "distribution": plugin.distribution,
                    "version": plugin.version,
                    "status": plugin.status,
                    "cause": plugin.cause or None,
                    "entries": entries,
                }
            )
            continue
        cause = f": {plugin.cause}" if plugin.cause else ""
        result(f"{plugin.distribution} {plugin.version} {plugin.status}{cause}")
        width = max([20, *(len(spec.name) + 2 for _, spec in plugin.entries)])
        for entry in entries:
            result(f"  {entry['kind']:<14}{entry['name']:<{width}}{entry['summary']}")
