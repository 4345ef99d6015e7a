"""Find what plugins provide; one that is broken, blocked or old never takes another down."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, is_dataclass, replace
from functools import wraps
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ParamSpec, TypeVar, get_type_hints

import pluggy

from mmdisco_cli import __version__, hookspecs
from mmdisco_cli.errors import ExitCode, PluginError, describe, did_you_mean, exit_code_of
from mmdisco_cli.hookspecs import (
    API_VERSION,
    OLDEST_API_VERSION,
    BackboneSpec,
    ConverterSpec,
    DatasetSpec,
    DiscriminatorSpec,
    ExtractorSpec,
    Factory,
    KindSpec,
    ProtocolSpec,
    Spec,
)
from mmdisco_cli.registry.blame import claim
from mmdisco_cli.registry.installing import how_to_install, providers
from mmdisco_cli.registry.plugin import VARIABLE, Plugin, reasons
from mmdisco_cli.registry.process_state import undisturbed
from mmdisco_cli.run.console import note, warn

P = ParamSpec("P")
T = TypeVar("T")

GROUP = "mmdisco"
HOST = "mmdisco-cli"
BUILTIN = "mmdisco_cli.builtin"
"""What mmdisco provides itself, loaded like any plugin: by name, so that nothing here knows what it is."""
KINDS: dict[str, type[Spec]] = {
    "backbone": BackboneSpec,
    "discriminator": DiscriminatorSpec,
    "dataset": DatasetSpec,
    "extractor": ExtractorSpec,
    "converter": ConverterSpec,
    "protocol": ProtocolSpec,
    "kind": KindSpec,
}


@dataclass(frozen=True)
class Registry:
    """All that is installed, by kind and name."""

    plugins: tuple[Plugin, ...]

    @property
    def statuses(self) -> dict[str, str]:
        """Return what became of every plugin, by distribution and version."""
        return {f"{p.distribution} {p.version}": p.trouble() or p.status for p in self.plugins}

    def entries(self, kind: str) -> list[tuple[str, Spec]]:
        """Return (distribution, description) of every entry of a kind."""
        return [(plugin.distribution, spec) for plugin in self.plugins for k, spec in plugin.entries if k == kind]

    def find(self, kind: str, name: str) -> Spec:
        """Return the one entry called `name`, or `distribution:name`.

        Raises:
            PluginError: no plugin provides it, or several distributions do.
        """
        distribution, colon, short = name.rpartition(":")
        entries = self.entries(kind)
        found = [(d, s) for d, s in entries if s.name == short and (not colon or d == normalised(distribution))]
        if len(found) == 1:
            return found[0][1]
        if found:
            owners = sorted(d for d, _ in found)
            choices = " or ".join(f"{owner}:{short}" for owner in owners)
            raise PluginError(f"{kind} {name!r} is provided by {' and '.join(owners)}: write {choices}")
        close = did_you_mean(short, (spec.name for _, spec in entries))
        raise PluginError(f"unknown {kind} {name!r}{self._provided(kind, short) or close}{self.troubles}")

    def _provided(self, kind: str, name: str) -> str:
        """Say, after a colon, which plugin of this project provides an entry and is not in use; empty for none."""
        if installable := self.installable(kind, name):
            return f": {how_to_install(installable[0])}"
        left_out = {plugin.distribution for plugin in self.plugins if plugin.status == "blocked"}
        return next((f": {owner} provides it" for owner in providers(kind, name) if owner in left_out), "")

    @property
    def troubles(self) -> str:
        """Return a clause, after a semicolon, for each reason why plugins provide nothing."""
        return "".join(f"; {reason}" for reason in reasons(self.plugins))

    def installable(self, kind: str, name: str | None = None) -> list[str]:
        """Return the plugins of this project that are not installed and provide an entry, or any of that kind."""
        present = {plugin.distribution for plugin in self.plugins}
        return [distribution for distribution in providers(kind, name) if distribution not in present]


def load_registry() -> Registry:
    """Load the built-ins and every plugin that MMDISCO_PLUGINS allows, each on its own."""
    allowed = _allowed()
    found = sorted(entry_points(group=GROUP), key=lambda point: (_owner(point), point.name))
    plugins = [_load(HOST, __version__, lambda: import_module(BUILTIN))]
    for point in found:
        owner, version = _owner(point), point.dist.version if point.dist else "?"
        blocked = allowed is not None and owner not in allowed
        if blocked:
            plugins.append(Plugin(owner, version, "blocked"))
            continue
        claim(point.module.partition(".")[0], f"{owner} {version}")
        plugins.append(_load(owner, version, point.load))
    missing = (allowed or set()) - {plugin.distribution for plugin in plugins}
    return Registry((*plugins, *(Plugin(name, "?", "missing") for name in sorted(missing))))


def normalised(distribution: str) -> str:
    """Return a distribution's name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _allowed() -> set[str] | None:
    value = os.environ.get(VARIABLE)
    return None if value is None else {normalised(name.strip()) for name in value.split(",") if name.strip()}


def _owner(point: EntryPoint) -> str:
    return normalised(point.dist.name) if point.dist else point.name


def _load(owner: str, version: str, load: Callable[[], Any]) -> Plugin:
    try:
        with redirect_stdout(sys.stderr), undisturbed(lambda names: _warn_of(f"{owner} {version}", names)):
            specs = tuple(_collect(load(), "" if owner == HOST else f"{owner} {version}"))
        return Plugin(owner, version, "loaded", specs)
    except KeyboardInterrupt:  # most likely true, but a plugin that hangs should be known by name
        note(f"interrupted while plugin {owner} {version} was loading")
        raise
    except BaseException as error:  # whatever a plugin does, the others and --help go on
        return Plugin(owner, version, "failed", cause=" ".join(f"{type(error).__name__}: {error}".split()))


def _warn_of(plugin: str, changed: list[str]) -> None:
    warn(f"plugin {plugin} changed {', '.join(changed)}, which other recipes share: set back")


def _collect(plugin: object, owner: str) -> list[tuple[str, Spec]]:
    """Return what a plugin describes, called through a manager of its own, after checking it."""
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    manager.register(plugin)
    manager.check_pending()  # a misspelled hook would otherwise never be called
    entries = [
        (kind, _checked(kind, spec, owner))
        for kind in KINDS
        for specs in getattr(manager.hook, f"mmdisco_{kind}s")()
        for spec in specs
    ]
    names = [(kind, spec.name) for kind, spec in entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise PluginError(f"it describes the {twice[0]} {twice[1]!r} twice")
    return entries


def _checked(kind: str, spec: Any, owner: str) -> Spec:
    expected = KINDS[kind]
    if not isinstance(spec, expected):
        raise PluginError(f"mmdisco_{kind}s must give {expected.__name__}, not {type(spec).__name__}")
    if not OLDEST_API_VERSION <= spec.api_version <= API_VERSION:
        old = "the plugin" if spec.api_version < OLDEST_API_VERSION else f"{HOST} {__version__}"
        window = f"{OLDEST_API_VERSION} to {API_VERSION}"
        raise PluginError(f"{spec.name!r} speaks plugin API {spec.api_version}, this host {window}: {old} is too old")
    if not spec.name or ":" in spec.name:
        raise PluginError(f"{spec.name!r} cannot be a name")
    if not is_dataclass(spec.options):
        raise PluginError(f"the options of {spec.name!r} must be a dataclass")
    if isinstance(spec, KindSpec) and not re.fullmatch(r"(\.\w+)+", spec.suffix):
        raise PluginError(f"the suffix of {spec.name!r} is {spec.suffix!r}, not a dot and letters")
    get_type_hints(spec.options)  # an annotation that does not resolve is the plugin's error, not the recipe's
    return _trusted(replace(spec, owner=owner))


def _trusted(spec: Spec) -> Spec:
    """Return the description with functions that print nothing among the results and whose errors name the plugin."""
    if isinstance(spec, BackboneSpec) and spec.outline is not None:
        spec = replace(spec, outline=_loader(spec, spec.outline))
    return replace(spec, factory=_loader(spec, spec.factory))


def _loader(spec: Spec, load: Callable[[], Factory]) -> Callable[[], Factory]:
    def loaded() -> Factory:
        build = load()
        if not callable(build):
            raise PluginError(
                f"plugin {spec.owner}: {spec.name!r}: its factory gives {type(build).__name__}, no function"
            )
        claim(getattr(build, "__module__", "") or "", spec.owner)
        return _aside(spec, build, (ValueError, KeyError))

    return _aside(spec, loaded)


def _aside(spec: Spec, function: Callable[P, T], expected: tuple[type[Exception], ...] = ()) -> Callable[P, T]:
    """Return the same function, with what it prints on stderr: stdout is for results.

    A plugin's errors other than those `expected` of it name it, and what it changes of the process is set back.
    """

    @wraps(function)
    def call(*arguments: P.args, **keywords: P.kwargs) -> T:
        with redirect_stdout(sys.stderr), _on_behalf(spec, expected) if spec.owner else nullcontext():
            made = function(*arguments, **keywords)
        claim(type(made).__module__, spec.owner)
        return made

    return call


@contextmanager
def _on_behalf(spec: Spec, expected: tuple[type[Exception], ...]) -> Iterator[None]:
    with undisturbed(lambda names: _warn_of(spec.owner, names), draws=True):
        try:
            yield
        except BaseException as error:  # SystemExit too, with which it would end everything as a success
            if exit_code_of(error) != ExitCode.UNEXPECTED or isinstance(error, expected):
                raise
            raise PluginError(f"plugin {spec.owner}: {spec.name!r}: {describe(error)}") from error
