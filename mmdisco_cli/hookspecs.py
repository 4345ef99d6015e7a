"""What a plugin may provide.

A plugin is a distribution with an entry point in the group `mmdisco` that names a module (or object) with any of the
hooks below. A hook returns descriptions, never instances, and importing that module must import nothing heavy:

    from mmdisco_cli.hookspecs import BackboneSpec, hookimpl

    @hookimpl
    def mmdisco_backbones():
        yield BackboneSpec("tone", "A pure tone", ToneOptions, lazy("mmdisco_tone.model:build"), api_version=1)
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import pluggy

API_VERSION = 1
OLDEST_API_VERSION = 1

hookspec = pluggy.HookspecMarker("mmdisco")
hookimpl = pluggy.HookimplMarker("mmdisco")

Factory = Callable[..., Any]


@dataclass(frozen=True)
class Spec:
    """Describe one entry that a recipe can name.

    `options` is a frozen dataclass whose every field has a default or is required in the recipe; `factory` imports and
    returns the function that builds the entry from its options. `api_version` is the version that the plugin was
    written against, as a literal: it must not follow the installed host. `owner` is the host's: it names the plugin
    with its version, empty for what mmdisco brings itself.
    """

    name: str
    summary: str
    options: type
    factory: Callable[[], Factory]
    api_version: int
    owner: str = field(default="", kw_only=True, compare=False)


@dataclass(frozen=True)
class BackboneSpec(Spec):
    """Describe a base model; `modalities` are those it predicts together, empty for any one that the recipe names.

    `outline` imports and returns a function like the factory's that needs no weights, for plans made before they are
    there: its networks lie on no device. `lacks` imports and returns a function of label and options that yields, for
    each model that is not on this machine, the recipe's key of it and a sentence that ends in how to get it.
    """

    modalities: tuple[str, ...] = ()
    outline: Callable[[], Factory] | None = None
    lacks: Callable[[], Factory] | None = None


@dataclass(frozen=True)
class DiscriminatorSpec(Spec):
    """Describe an architecture for the joint discriminator."""


@dataclass(frozen=True)
class DatasetSpec(Spec):
    """Describe a source of aligned tuples, one item a modality."""


@dataclass(frozen=True)
class ExtractorSpec(Spec):
    """Describe a network whose features `mmdisco eval --extractor` compares.

    Its options are `mmdisco_cli.extractors.options.ExtractorOptions`, its factory gives an `Extractor`.
    """


@dataclass(frozen=True)
class NoOptions:
    """The options of what a recipe only names."""


@dataclass(frozen=True)
class ProtocolSpec(Spec):
    """Describe a way to evaluate a recipe, which `eval.protocol` names.

    It has no options: its factory takes nothing and gives a `mmdisco_cli.evaluation.protocol.Protocol`.
    """

    options: type = field(default=NoOptions, init=False)


def lazy(target: str) -> Callable[[], Factory]:
    """Return a loader of `module:attribute` that imports nothing until it is called."""

    def load() -> Factory:
        module, _, attribute = target.partition(":")
        factory: Factory = getattr(import_module(module), attribute)
        return factory

    return load


@hookspec
def mmdisco_backbones() -> Iterable[BackboneSpec]:  # type: ignore[empty-body]
    """Describe the base models that this plugin provides."""


@hookspec
def mmdisco_discriminators() -> Iterable[DiscriminatorSpec]:  # type: ignore[empty-body]
    """Describe the discriminators that this plugin provides."""


@hookspec
def mmdisco_datasets() -> Iterable[DatasetSpec]:  # type: ignore[empty-body]
    """Describe the data sets that this plugin provides."""


@hookspec
def mmdisco_extractors() -> Iterable[ExtractorSpec]:  # type: ignore[empty-body]
    """Describe the networks for evaluation that this plugin provides."""


@hookspec
def mmdisco_protocols() -> Iterable[ProtocolSpec]:  # type: ignore[empty-body]
    """Describe the ways to evaluate a recipe that this plugin provides."""
