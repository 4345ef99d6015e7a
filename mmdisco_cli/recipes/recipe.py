"""Find, read and override recipes: YAML into frozen dataclasses, every mistake reported with its line."""

import errno
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, ScalarNode

from mmdisco_cli.errors import UsageError, did_you_mean
from mmdisco_cli.recipes.schema import Component, Recipe, differences, to_plain
from mmdisco_cli.recipes.validation import read_recipe
from mmdisco_cli.recipes.yaml_nodes import (
    assign,
    lookup,
    merge,
    one_line,
    parse_tree,
    place,
    read_override,
    read_tree,
    without,
)
from mmdisco_cli.registry.plugins import Registry, load_registry
from mmdisco_cli.schema import at_home

__all__ = [
    "Component",
    "Recipe",
    "differences",
    "find",
    "load",
    "load_plain",
    "packaged",
    "packaged_folder",
    "to_plain",
]


def packaged_folder() -> Path:
    """Return the folder of the packaged recipes: in the wheel, or beside the package in a source checkout."""
    package = Path(__file__).parent.parent
    installed = package / "_recipes"
    return installed if installed.is_dir() else package.parent / "recipes"


def packaged() -> dict[str, Path]:
    """Return the recipes that ship with mmdisco, by name."""
    return {path.stem: path for path in sorted(packaged_folder().glob("*.yaml"), key=lambda path: path.stem)}


def find(name: str) -> Path:
    """Return the file of a recipe: a path first, then a packaged recipe with or without .yaml.

    Raises:
        UsageError: neither exists.
    """
    path = Path(at_home(name))
    if _is_file(path):
        return path
    known = packaged()
    if (found := known.get(name.removesuffix(".yaml"))) is not None:
        return found
    hint = " (a folder of weights goes by --checkpoint)" if _is_folder(path) else did_you_mean(path.stem, known)
    raise UsageError(f"no recipe {name!r}, neither a file nor a packaged one{hint}")


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # no file can have this name
            return False
        raise


def load(name: str, overrides: Sequence[str] = (), registry: Registry | None = None) -> Recipe:
    """Read a recipe by name or path, merge it into the one it extends, and apply `key.path=value` overrides.

    Raises:
        UsageError: not found, or a line for each mistake in it.
        PluginError: it names an entry that no plugin provides.
    """
    path = find(name)
    tree = _with_base(read_tree(path), path)
    if lookup(tree, "name") is None:
        tree = assign(tree, ["name"], ScalarNode("tag:yaml.org,2002:str", path.stem, tree.start_mark))
    return read_recipe(_overridden(tree, overrides), registry or load_registry())


def load_plain(
    plain: Mapping[str, Any], origin: str, overrides: Sequence[str] = (), registry: Registry | None = None
) -> Recipe:
    """Return a resolved recipe from the plain data that `origin` holds; overrides and errors as for `load`."""
    tree = parse_tree(yaml.safe_dump(dict(plain), sort_keys=False, allow_unicode=True), origin)
    return read_recipe(_overridden(tree, overrides), registry or load_registry())


def _with_base(tree: MappingNode, path: Path, above: tuple[Path, ...] = ()) -> MappingNode:
    """Return a recipe's tree merged into that which it extends, and so on; `above` are the files that led to it."""
    node = lookup(tree, "extends")
    if node is None:
        return tree
    if not isinstance(node, ScalarNode) or not node.value:
        raise UsageError(f"{place(node)}: extends: expected the name or path of one recipe")
    beside = path.parent / node.value
    chain = (*above, path.resolve())
    try:
        found = beside if _is_file(beside) else find(node.value)
        if found.resolve() in chain:
            raise UsageError(f"{node.value} extends this one, so that none would be the first")
        base = _with_base(read_tree(found), found, chain)
    except UsageError as error:
        raise UsageError(f"{place(node)}: extends: {error}") from error
    return merge(without(base, "name", "summary"), without(tree, "extends"))


def _overridden(tree: MappingNode, overrides: Iterable[str]) -> MappingNode:
    for text in overrides:
        keys, value = read_override(text)
        backbones = lookup(tree, "backbones")
        # The only mapping of the schema with free keys: an override may change its entries but not add one.
        if keys[0] == "backbones" and len(keys) > 1 and lookup(backbones or tree, keys[1]) is None:
            known = [key.value for key, _ in backbones.value] if isinstance(backbones, MappingNode) else []
            unknown = one_line(f"backbones.{keys[1]}")
            raise UsageError(f"{place(value)}: {unknown}: unknown key{did_you_mean(keys[1], known)}")
        try:
            tree = assign(tree, keys, value)
        except RecursionError as error:
            raise UsageError(f"{place(value)}: the key is nested too deeply") from error
    return tree
