"""What may be written in a recipe, read from the fields that validate it: key, type, default, bounds and meaning."""

import types
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

from mmdisco_cli.hookspecs import BackboneSpec, DatasetSpec, DiscriminatorSpec, Spec
from mmdisco_cli.recipes.schema import Recipe, to_plain
from mmdisco_cli.schema import Bounds

_TYPES = {int: "integer", float: "number", bool: "true or false", str: "text"}
_SAME = {"name": "the file's name"}
"""Keys without a default whose absence says something."""
_EXTENDS = (
    "a recipe that this one is merged into, by name or path, without its `name` and `summary`; a null resets a key"
)


@dataclass(frozen=True)
class Key:
    """One key of a recipe or option of an entry: `default` is as YAML has it, empty where there is none."""

    key: str
    type: str
    default: str
    limits: str
    doc: str
    required: bool = False
    choices: tuple[str, ...] = ()

    @property
    def meaning(self) -> str:
        """Return what the key means, with its bounds."""
        return f"{self.doc} ({self.limits})" if self.limits else self.doc


def recipe_keys(section: str = "") -> list[Key]:
    """Return the keys of a recipe, all or those at and below a dotted name."""
    found: list[Key] = []
    for key in _keys(Recipe):
        found.append(key)
        if key.key == "name":
            found.append(Key("extends", "text", "", "", _EXTENDS))
    return [key for key in found if not section or key.key == section or key.key.startswith(f"{section}.")]


def option_keys(spec: Spec) -> list[Key]:
    """Return the options of an entry."""
    return list(_keys(spec.options))


def snippet(kind: str, spec: Spec) -> str:
    """Return how an entry is named in a recipe as YAML, or on the command line, with the options that it must have."""
    if isinstance(spec, BackboneSpec):
        names = {0: "MODALITY", 1: "".join(spec.modalities[:1])}
        return _yaml({"backbones": {names.get(len(spec.modalities), spec.name): _entry(spec)}})
    if isinstance(spec, DatasetSpec):
        return _yaml({"data": _entry(spec)})
    if isinstance(spec, DiscriminatorSpec):
        return _yaml({"discriminator": _entry(spec)})
    commands = {
        "protocol": _yaml({"eval": {"protocol": spec.name}}),
        "extractor": f"mmdisco eval --samples DIR --reference DIR --extractor {spec.name}",
        "kind": f"mmdisco sample --recipe RECIPE --given {spec.name}=FILE{getattr(spec, 'suffix', '')}",
        "converter": f"mmdisco convert FILE DESTINATION --format {spec.name}",
    }
    return commands.get(kind, "")


def _entry(spec: Spec) -> dict[str, Any]:
    return {"name": spec.name, **{key.key: key.key.upper() for key in option_keys(spec) if key.required}}


def _keys(schema: type, prefix: str = "") -> Iterator[Key]:
    hints = get_type_hints(schema)
    for field in fields(schema):
        hint: Any = hints[field.name]
        if is_dataclass(hint) and isinstance(hint, type) and "registry" not in field.metadata:
            yield from _keys(hint, f"{prefix}{field.name}.")
        elif field.init:
            yield _key(f"{prefix}{field.name}", field, hint)


def _key(name: str, field: "Field[Any]", hint: Any) -> Key:
    bounds: Bounds = field.metadata.get("bounds", Bounds())
    kind = field.metadata.get("registry")
    required = field.default is MISSING and field.default_factory is MISSING
    default = _SAME.get(name, "") if required else _shown(_default(field))
    written = f"a {kind}'s name" if kind and hint is str else f"{kind} and its options" if kind else _type(hint)
    choices = tuple(map(str, bounds.choices))
    return Key(name, written, default, _limits(bounds), bounds.doc, required and name not in _SAME, choices)


def _default(field: "Field[Any]") -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _shown(value: Any) -> str:
    """Return a default as a recipe would have it, empty for none."""
    if value is None or value == "" or (isinstance(value, Mapping | tuple) and not value):
        return ""
    return yaml.safe_dump(to_plain(value), default_flow_style=True, width=1000).removesuffix("...\n").strip()


def _type(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(argument) for argument in arguments if argument is not type(None))
    if origin is tuple:
        one = _type(arguments[0])
        return f"list of {one}s" if arguments[-1] is Ellipsis else f"list of {len(arguments)} {one}s"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"mapping of {_plural(_type(arguments[1]))}"
    return _TYPES.get(hint, str(hint))


def _plural(one: str) -> str:
    return one.replace("list of", "lists of") if one.startswith("list of") else f"{one}s"


def _limits(bounds: Bounds) -> str:
    if bounds.choices:
        return ", ".join(map(str, bounds.choices))
    if bounds.minimum is not None and bounds.maximum is not None:
        return f"{bounds.minimum:g} to {bounds.maximum:g}"
    if bounds.minimum is not None:
        return f"at least {bounds.minimum:g}"
    return f"at most {bounds.maximum:g}" if bounds.maximum is not None else ""


def _yaml(content: Any) -> str:
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    return text.rstrip("\n")
