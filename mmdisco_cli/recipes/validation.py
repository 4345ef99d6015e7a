"""Read a YAML tree into frozen dataclasses, and report all mistakes at once."""

import math
import re
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from mmdisco_cli.errors import PluginError, UsageError, did_you_mean
from mmdisco_cli.hookspecs import Spec
from mmdisco_cli.recipes.schema import Component, Recipe, modalities_of
from mmdisco_cli.recipes.yaml_nodes import is_null, is_reset, lookup, one_line, place
from mmdisco_cli.registry.plugins import Registry
from mmdisco_cli.schema import WIDEST, Bounds, KeyProblem, at_home

_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
_TAGS = {int: ("int",), float: ("float", "int"), bool: ("bool",), str: ("str",)}
_DIGITS = re.compile("[-+]?[0-9][0-9_]*")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""Characters that YAML can escape, but that are invalid in paths and texts."""


def read_recipe(tree: MappingNode, registry: Registry) -> Recipe:
    """Return the recipe that a tree describes.

    Raises:
        UsageError: a line for each wrong key, type or value.
        PluginError: the same, where the only mistakes are names that no plugin provides.
    """
    reader = _Reader(registry)
    recipe = reader.dataclass(tree, Recipe, "", Bounds())
    if reader.problems:
        usage = any(kind is UsageError for kind, _ in reader.problems)
        raise (UsageError if usage else PluginError)("\n".join(text for _, text in reader.problems))
    return cast(Recipe, recipe)


class _Reader:
    """Reads nodes by type. A method that finds a problem records it and returns None, and reading continues."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.problems: list[tuple[type[UsageError | PluginError], str]] = []
        self.said = ""  # what is wrong with plugins, once that is in a line
        self.modalities: tuple[str, ...] | None = None  # known once the backbones are read

    def problem(self, node: Node, path: str, text: str, kind: type[UsageError | PluginError] = UsageError) -> None:
        """Record a problem at a node, with its dotted path."""
        self.problems.append((kind, one_line(f"{place(node)}: {path}: {text}" if path else f"{place(node)}: {text}")))

    def read(self, node: Node, hint: Any, path: str, bounds: Bounds) -> Any:
        origin, arguments = get_origin(hint), get_args(hint)
        if origin in (Union, types.UnionType) and len(arguments) == 2 and type(None) in arguments:
            present = next(argument for argument in arguments if argument is not type(None))
            return None if is_null(node) else self.read(node, present, path, bounds)
        if origin is tuple:
            return self.sequence(node, arguments, path, bounds)
        if origin is not None and issubclass(origin, Mapping):
            return self.mapping(node, arguments[1], path, bounds)
        if hint in _NAMES:
            return self.scalar(node, hint, path, bounds)
        if is_dataclass(hint):
            return self.dataclass(node, cast(type, hint), path, bounds)
        raise PluginError(f"{path}: an option of type {hint} cannot be read from a recipe")

    def pairs(self, node: Node, path: str) -> list[tuple[str, Node, Node]] | None:
        """Return (key, key node, value) of a mapping; an empty section is an empty mapping."""
        if is_null(node):
            return []
        if not isinstance(node, MappingNode):
            self.problem(node, path, "expected a mapping")
            return None
        return [(key.value, key, value) for key, value in node.value]

    def dataclass(self, node: Node, cls: type, path: str, bounds: Bounds, *, ignore: str = "") -> Any:
        before = len(self.problems)
        pairs = self.pairs(node, path)
        if pairs is None:
            return None
        schema, hints = {f.name: f for f in fields(cls) if f.init}, get_type_hints(cls)
        for key, at, _ in pairs:
            if key not in schema and key != ignore:
                self.problem(at, _join(path, key), _unknown(key, schema, path))
        # A null in place of a value asks for the default; where None is a value, as the hint says, it is that.
        given = {key: value for key, _, value in pairs if not is_reset(value) or _may_be_none(hints.get(key))}
        values = {
            name: self.field(given[name], f, hints[name], _join(path, name))
            for name, f in schema.items()
            if name in given
        }
        for name, f in schema.items():
            if name not in given and f.default is MISSING and f.default_factory is MISSING:
                self.problem(node, _join(path, name), "is missing")
        return self.build(node, cls, values, path) if len(self.problems) == before else None

    def build(self, node: Node, cls: type, values: dict[str, Any], path: str) -> Any:
        try:
            return cls(**values)
        except ValueError as error:  # a __post_init__ that checks fields against each other
            key = error.key if isinstance(error, KeyProblem) else ""
            self.problem(_deepest(node, key), _join(path, key) if key else path, str(error))
            return None

    def field(self, node: Node, f: "Field[Any]", hint: Any, path: str) -> Any:
        bounds = f.metadata.get("bounds", Bounds())
        kind = f.metadata.get("registry")
        if kind is None:
            return self.read(node, hint, path, bounds)
        if hint is str:
            return self.spec(node, kind, path) and cast(ScalarNode, node).value
        if get_origin(hint) is not Mapping:
            return None if is_null(node) else self.component(node, kind, path)
        return self.components(node, kind, path)

    def components(self, node: Node, kind: str, path: str) -> dict[str, Component] | None:
        pairs = self.pairs(node, path)
        if pairs is None:
            return None
        for key, at, _ in pairs:
            if not re.fullmatch(r"[\w-]+", key):  # it becomes a part of dotted paths
                self.problem(at, _join(path, key), "a name must be of letters, digits, _ and -")
        kept = [(key, value) for key, _, value in pairs if not is_reset(value)]
        found = {key: self.component(value, kind, _join(path, key)) for key, value in kept}
        known = {key: component for key, component in found.items() if component is not None}
        if len(known) < len(found):
            return None
        modalities = modalities_of(known)
        self.modalities = modalities or None
        for modality in sorted({m for m in modalities if modalities.count(m) > 1}):
            self.problem(node, path, f"several of them make {modality!r}")
        return known

    def component(self, node: Node, kind: str, path: str) -> Component | None:
        name_node = lookup(node, "name")
        if not isinstance(node, MappingNode) or name_node is None:
            self.problem(node, path, "expected a mapping with a name")
            return None
        spec = self.spec(name_node, kind, _join(path, "name"))
        options = spec and self.dataclass(node, spec.options, path, Bounds(), ignore="name")
        return Component(name_node.value, options, spec) if spec and options is not None else None

    def spec(self, node: Node, kind: str, path: str) -> Spec | None:
        name = self.scalar(node, str, path, Bounds())
        try:
            return None if name is None else self.registry.find(kind, name)
        except PluginError as error:
            self.problem(node, path, str(error).removesuffix(self.said), PluginError)
            self.said = self.registry.troubles
            return None

    def mapping(self, node: Node, hint: Any, path: str, bounds: Bounds) -> dict[str, Any] | None:
        pairs = self.pairs(node, path)
        if pairs is None:
            return None
        for key, at, _ in pairs:
            self.modality(at, key, _join(path, key), bounds)
        kept = [(key, value) for key, _, value in pairs if not is_reset(value) or _may_be_none(hint)]
        return {key: self.read(value, hint, _join(path, key), bounds) for key, value in kept}

    def sequence(self, node: Node, arguments: tuple[Any, ...], path: str, bounds: Bounds) -> tuple[Any, ...] | None:
        if not isinstance(node, SequenceNode):
            self.problem(node, path, "expected a list")
            return None
        items = list(node.value)
        hints = (arguments[0],) * len(items) if arguments[-1] is Ellipsis else arguments
        if len(items) != len(hints):
            self.problem(node, path, f"expected {len(hints)} values, got {len(items)}")
            return None
        for i, item in enumerate(items):
            if isinstance(item, ScalarNode):  # others are reported when they are read
                self.modality(item, item.value, f"{path}[{i}]", bounds)
        return tuple(
            self.read(item, hint, f"{path}[{i}]", bounds)
            for i, (item, hint) in enumerate(zip(items, hints, strict=True))
        )

    def modality(self, node: Node, name: str, path: str, bounds: Bounds) -> None:
        """Record a problem where a name must be a modality of this recipe and is not."""
        if bounds.by_modality and self.modalities is not None and name not in self.modalities:
            self.problem(node, path, f"unknown modality{did_you_mean(name, self.modalities)}")

    def scalar(self, node: Node, hint: type, path: str, bounds: Bounds) -> Any:
        value = _parse(node, hint) if isinstance(node, ScalarNode) else None
        if value is None:
            found = f"{node.value!r}" if isinstance(node, ScalarNode) else "a list or mapping"
            quote = " (quote it)" if hint is str and isinstance(node, ScalarNode) and node.value else ""
            self.problem(node, path, f"expected {_NAMES[hint]}, got {found}{quote}")
            return None
        if complaint := _complaint(value, bounds):
            self.problem(node, path, complaint)
        return at_home(value) if bounds.path else value


def _may_be_none(hint: Any) -> bool:
    return type(None) in get_args(hint)


def _unknown(key: str, schema: Mapping[str, "Field[Any]"], path: str) -> str:
    renamed = (name for name, f in schema.items() if f.metadata.get("bounds", Bounds()).formerly == key)
    name = next(renamed, "")
    return f"is now called {_join(path, name)}" if name else f"unknown key{did_you_mean(key, schema)}"


def _parse(node: ScalarNode, hint: type) -> Any:
    """Return the node's value as `hint`, or None where it has another type.

    Numbers are read as in most languages, unlike in YAML 1.1: 010 is ten, 1e-4 is a number, and 1:30 is not.
    """
    tag = node.tag.removeprefix("tag:yaml.org,2002:")
    number = hint in (int, float) and (node.style is None or tag in _TAGS[hint])
    if number and ":" in node.value:
        return None
    plain_number = number and (_DIGITS.fullmatch(node.value) or (hint is float and tag == "str"))
    if tag not in _TAGS[hint] and not plain_number:
        return None
    try:
        value = hint(node.value if plain_number else yaml.SafeLoader("").construct_object(node))
    except (ValueError, LookupError, OverflowError):
        return None
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _complaint(value: Any, bounds: Bounds) -> str:
    if bounds.choices and value not in bounds.choices:
        return f"unknown value {value!r}{did_you_mean(str(value), map(str, bounds.choices))}"
    return _wrong_text(value, bounds) if isinstance(value, str) else _wrong_size(value, bounds)


def _wrong_text(text: str, bounds: Bounds) -> str:
    if _NO_TEXT.search(text):
        return f"holds characters that are not text, got {text!r}"
    if bounds.folder and (
        text in {"", ".", ".."} or not text.isprintable() or set(text) & {"/", "\\"} or len(text.encode()) > 255
    ):
        return f"must be a valid name of one folder, got {text!r}"
    return ""


def _wrong_size(number: float, bounds: Bounds) -> str:
    lowest, highest = WIDEST if isinstance(number, int) else (-math.inf, math.inf)
    lowest = lowest if bounds.minimum is None else bounds.minimum
    highest = highest if bounds.maximum is None else bounds.maximum
    if number < lowest:
        return f"must be at least {_shown(lowest)}, got {_shown(number)}"
    if number > highest:
        return f"must be at most {_shown(highest)}, got {_shown(number)}"
    return ""


def _shown(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def _deepest(node: Node, key: str) -> Node:
    """Return the node under a dotted key, or the deepest one that exists on the way."""
    for part in key.split("."):
        node = lookup(node, part) or node
    return node


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
