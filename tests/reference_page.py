"""Print mmdisco_cli/docs/reference.md from what validates recipes: python tests/reference_page.py > that file."""

from collections.abc import Iterator

from mmdisco_cli.app import ENVIRONMENT
from mmdisco_cli.errors import EXIT_MEANINGS
from mmdisco_cli.recipes.reference import Key, option_keys, recipe_keys, snippet
from mmdisco_cli.registry.plugins import HOST, load_registry

HEAD = """# Reference

Made from the code by `tests/reference_page.py`. `mmdisco recipes keys [SECTION]` prints the first table, and
`mmdisco plugins NAME` the options of an entry, those of installed plugins too; both take `--json`.
"""
NAMED = ("backbone", "discriminator", "dataset")
"""Kinds of entries that a recipe names with options."""


def page() -> str:
    """Return the page as Markdown."""
    return "\n".join([HEAD, *_keys(), *_entries(), *_codes(), *_environment()])


def _keys() -> Iterator[str]:
    yield "## Recipe keys\n"
    yield from _table(recipe_keys())


def _entries() -> Iterator[str]:
    yield "## Options of what is built in\n"
    plugin = next(plugin for plugin in load_registry().plugins if plugin.distribution == HOST)
    for kind, spec in plugin.entries:
        if kind in NAMED:
            yield f"### {kind} `{spec.name}`: {spec.summary}\n\n```yaml\n{snippet(kind, spec)}\n```\n"
            yield from _table(option_keys(spec))


def _table(keys: list[Key]) -> Iterator[str]:
    yield "| key | type | default | meaning |\n|---|---|---|---|"
    for key in keys:
        default = key.default if key.default == "the file's name" else f"`{key.default}`" if key.default else ""
        yield f"| `{key.key}` | {key.type} | {'required' if key.required else default} | {key.meaning} |"
    yield ""


def _codes() -> Iterator[str]:
    yield "## Exit codes\n\n| code | meaning |\n|---|---|"
    yield from (f"| {int(code)} | {text} |" for code, text in EXIT_MEANINGS.items())
    yield ""


def _environment() -> Iterator[str]:
    yield "## Environment variables\n\n| variable | meaning |\n|---|---|"
    yield from (f"| `{name}` | {text} |" for name, text in ENVIRONMENT.items())
    yield ""


if __name__ == "__main__":
    print(page(), end="")
