"""YAML as a tree of nodes that remember their file and line; no objects are ever constructed from it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode

from mmdisco_cli.errors import UsageError

_MAP = "tag:yaml.org,2002:map"
_NULL = "tag:yaml.org,2002:null"
_OVERRIDE = "--set "


class _Loader(yaml.SafeLoader):
    """Composes nodes; refuses duplicate keys, of which YAML would silently take the last, and recursive values."""

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        node = super().compose_node(parent, index)
        if node is not None and node.end_mark is None:  # an alias of what is still being read
            raise yaml.MarkedYAMLError(problem="a value holds itself", problem_mark=node.start_mark)
        return node

    def compose_mapping_node(self, anchor: Any) -> MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be text", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key.value!r} is given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return node


def read_tree(path: Path) -> MappingNode:
    """Compose the mapping in a recipe file.

    Raises:
        UsageError: it is not a YAML mapping, with the file, line and column.
    """
    return parse_tree(read_text(path), str(path))


def read_text(path: Path) -> str:
    """Return the text of a recipe file; raise UsageError where it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{one_line(str(path))}: is not UTF-8 text") from error


def parse_tree(text: str, path: str) -> MappingNode:
    """Compose the mapping in the text of the recipe at `path`; errors as for `read_tree`."""
    node = _compose(text, path)
    if not isinstance(node, MappingNode):
        raise UsageError(
            f"{path}: expected a mapping of sections, found {'nothing' if is_null(node) else 'something else'}"
        )
    return node


def read_override(text: str) -> tuple[list[str], Node]:
    """Split `a.b=value` at the first equals sign into its keys and the composed value.

    Raises:
        UsageError: there is no key or no equals sign, or the value is no YAML.
    """
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise UsageError(f"{_OVERRIDE}{one_line(text)}: expected KEY=VALUE, as in sample.steps=20")
    node = _compose(value, f"{_OVERRIDE}{text}")
    if value[node.end_mark.index if node.end_mark else 0 :].strip():
        raise UsageError(f"{_OVERRIDE}{one_line(text)}: what follows a # would be left out: quote the value")
    return keys, node


def one_line(text: str) -> str:
    """Return text with line breaks and other unprintable characters escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _compose(text: str, name: str) -> Node:
    name = one_line(name)
    try:
        loader = _Loader(text)
        loader.name = name
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        raise UsageError(f"{_place(error.problem_mark, name)}: {one_line(str(error.problem))}") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{name}: not readable as YAML: {str(error).splitlines()[0]}") from error
    # What Python says of these differs between its versions.
    except RecursionError as error:
        raise UsageError(f"{name}: not readable as YAML: nested too deeply") from error
    except (ValueError, OverflowError) as error:
        raise UsageError(f"{name}: not readable as YAML: an escape \\U stands for no character") from error
    return node if node is not None else ScalarNode(_NULL, "", yaml.Mark(name, 0, 0, 0, None, 0))


def _place(mark: yaml.Mark | None, name: str) -> str:
    return name if mark is None or name.startswith(_OVERRIDE) else f"{name}:{mark.line + 1}:{mark.column + 1}"


def place(node: Node) -> str:
    """Return `file:line:column` of a node, or the override that it came from."""
    return _place(node.start_mark, node.start_mark.name)


def is_null(node: Node) -> bool:
    """Return whether a value is empty or null."""
    return isinstance(node, ScalarNode) and node.tag == _NULL


def is_reset(node: Node) -> bool:
    """Return whether a value is a null that is written out, which resets its key; an empty one was rather forgotten."""
    return is_null(node) and bool(node.value)


def lookup(node: Node, key: str) -> Node | None:
    """Return the value of a key, or None."""
    pairs = node.value if isinstance(node, MappingNode) else ()
    return next((value for name, value in pairs if name.value == key), None)


def without(node: MappingNode, *keys: str) -> MappingNode:
    """Return the mapping without some keys."""
    return _like(node, [pair for pair in node.value if pair[0].value not in keys])


def merge(base: MappingNode, child: MappingNode) -> MappingNode:
    """Merge a mapping into another; a section that names another registry entry replaces the whole section."""
    merged = base
    for key, value in child.value:
        old = lookup(base, key.value)
        if isinstance(old, MappingNode) and isinstance(value, MappingNode) and not _renames(old, lookup(value, "name")):
            value = merge(old, value)
        merged = _put(merged, key, value)
    return merged


def assign(node: MappingNode, keys: Sequence[str], value: Node) -> MappingNode:
    """Set one value by its path; giving a section another `name` drops the options of the old entry.

    Names that differ only in the distribution, as `token` and `mmdisco-cli:token`, are the same.
    """
    key, rest = ScalarNode("tag:yaml.org,2002:str", keys[0], value.start_mark), keys[1:]
    if not rest:
        return _put(node, key, value)
    old = lookup(node, keys[0])
    section = old if isinstance(old, MappingNode) else MappingNode(_MAP, [], value.start_mark)
    if rest == ["name"] and _renames(section, value):
        section = _like(section, [])
    return _put(node, key, assign(section, rest, value))


def _renames(section: Node, name: Node | None) -> bool:
    old = lookup(section, "name")
    return isinstance(old, ScalarNode) and isinstance(name, ScalarNode) and _short(old) != _short(name)


def _short(name: ScalarNode) -> str:
    return str(name.value).rpartition(":")[2]


def _put(node: MappingNode, key: Node, value: Node) -> MappingNode:
    if lookup(node, key.value) is None:
        return _like(node, [*node.value, (key, value)])
    return _like(node, [(key, value) if pair[0].value == key.value else pair for pair in node.value])


def _like(node: MappingNode, pairs: list[tuple[Node, Node]]) -> MappingNode:
    return MappingNode(_MAP, pairs, node.start_mark, node.end_mark)
