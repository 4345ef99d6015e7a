"""`mmdisco info`."""

from mmdisco_cli.commands.parameters import JsonOption
from mmdisco_cli.run.console import record, result


def command(json: JsonOption = False) -> None:
    """Print versions, devices, plugins and paths."""
    from mmdisco_cli.recipes.recipe import packaged_folder
    from mmdisco_cli.registry.plugins import load_registry
    from mmdisco_cli.run.environment import devices, environment, paths

    statuses = load_registry().statuses
    found = {**environment(statuses), "devices": devices(), "paths": paths(packaged_folder())}
    if json:
        record(found)
        return
    for section, content in found.items():
        if isinstance(content, dict):
            result(f"{section}:")
            for name, value in content.items():
                result(f"  {name}: {value}")
        else:
            result(f"{section}: {', '.join(content) if isinstance(content, list) else content}")
