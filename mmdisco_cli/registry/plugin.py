"""A plugin that was found, and why one provides nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

from mmdisco_cli.hookspecs import Spec

VARIABLE = "MMDISCO_PLUGINS"


@dataclass(frozen=True)
class Plugin:
    """One entry point and what became of it: `status` is loaded, failed, blocked or missing."""

    distribution: str
    version: str
    status: str
    entries: tuple[tuple[str, Spec], ...] = ()  # (kind, description)
    cause: str = ""

    def trouble(self) -> str:
        """Say in a clause why it provides nothing; empty when it does."""
        clauses = {
            "failed": f"plugin {self.distribution} {self.version} failed: {self.cause}",
            "blocked": f"plugin {self.distribution} is left out by {VARIABLE}",
            "missing": f"plugin {self.distribution}, named by {VARIABLE}, is not installed",
        }
        return clauses.get(self.status, "")


def reasons(plugins: Sequence[Plugin]) -> list[str]:
    """Return a clause for each reason why plugins provide nothing, with all that are left out in one."""
    blocked = [plugin.distribution for plugin in plugins if plugin.status == "blocked"]
    if len(blocked) < 2:
        return [plugin.trouble() for plugin in plugins if plugin.trouble()]
    others = [plugin.trouble() for plugin in plugins if plugin.status != "blocked" and plugin.trouble()]
    return [f"plugins {', '.join(blocked[:-1])} and {blocked[-1]} are left out by {VARIABLE}", *others]
