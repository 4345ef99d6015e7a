"""What a plugin may provide.

A plugin is a distribution with an entry point in the group `mmdisco` that names a module (or object) with any of the
hooks below. A hook returns descriptions, never instances, and importing that module must import nothing heavy:

    from mmdisco_cli.hookspecs import BackboneSpec, hookimpl

    @hookimpl
    def mmdisco_backbones():
        yield BackboneSpec("tone", "A pure tone", ToneOptions, lazy("mmdisco_tone.model:build"), api_version=1)

Options are a frozen dataclass whose fields `mmdisco_cli.schema.option` declares, with default, help text and bounds:

    @dataclass(frozen=True)
    class ToneOptions:
        pitch: float = option(440.0, "in Hz", minimum=20)

`plugins/mmdisco-example` in the repository has entries to copy, and its README is the guide for authors.

The function that a description leads to is called with positional arguments:

| hook | build | what it returns, and its Protocol |
|---|---|---|
| `mmdisco_backbones` | `build(label, options, request)` | `diffusion.backbone.Backbone` or `JointBackbone` |
| `mmdisco_discriminators` | `build(options, shapes, pooled)` | `diffusion.guidance.Discriminator` |
| `mmdisco_datasets` | `build(options, request)` | `data.contract.SplitDataset` |
| `mmdisco_extractors` | `build(options)` | `extractors.contract.Extractor` |
| `mmdisco_converters` | `build(format, shapes, file)` | a sequence of `conversion.contract.Candidate` |
| `mmdisco_protocols` | `build()` | `evaluation.protocol.Protocol` |
| `mmdisco_kinds` | `build()` | `kinds.contract.Kind` |

The Protocol of each `build` itself, with the types of its arguments, stands beside them: `BuildBackbone` and so on.
`mmdisco_cli.testing` checks that an entry keeps its contract.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib import import_module
from shlex import join
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
    each model that is not on this machine, the recipe's key of it and a sentence that ends in how to get it, or a
    `Wanted`, which `--download` fetches; where it has a parameter `recipe` it is given the recipe's name too. `adopt`
    imports and returns a function like the factory's with one more argument: an object of the model's own library, such
    as a pipeline in memory, that becomes the model.
    """

    modalities: tuple[str, ...] = ()
    outline: Callable[[], Factory] | None = None
    lacks: Callable[[], Factory] | None = None
    adopt: Callable[[], Factory] | None = None


@dataclass(frozen=True)
class DiscriminatorSpec(Spec):
    """Describe an architecture for the joint discriminator.

    `lacks` imports and returns a function of a recipe's name and the path of its trained weights, which are not there:
    it returns a sentence that ends in how to get them, or a `Wanted`, which `--download` fetches; an empty one where
    nobody publishes any.
    """

    lacks: Callable[[], Factory] | None = None


@dataclass(frozen=True)
class DatasetSpec(Spec):
    """Describe a source of aligned tuples, one item a modality.

    A `build` with further parameters named `modalities`, `channels`, `sample_rate` or `progress` is given those too.
    `check` imports and returns a function of options and modalities, called before any base model is loaded: it looks
    at what costs little, with the errors of `build`, and what it returns is given to a `build` that has the parameter
    `checked`. Where that has an attribute `captioned`, it says whether any clip has a caption, and `report`, in lines,
    what is odd about them.
    """

    check: Callable[[], Factory] | None = None


@dataclass(frozen=True)
class ExtractorSpec(Spec):
    """Describe a network whose features `mmdisco eval --extractor` compares.

    Its options are `mmdisco_cli.extractors.options.ExtractorOptions`, its factory gives an `Extractor`.
    """


@dataclass(frozen=True)
class Published:
    """One file of another project: its name, what it holds, where its authors publish it, and about how large it is.

    `recipe` is the packaged recipe that samples with the converted file alone, empty where none does.

    `--download` fetches it from `hub`, a repository of the Hugging Face Hub, at `revision`; or from Google Drive by the
    file's id, `drive`, or by its name in the folder of the id `drive_folder`. `sha256` and `bytes` are the file's own,
    empty and 0 where they are not known. `gated` says that the hub wants its licence accepted first.
    """

    file: str
    what: str
    where: str
    size: str
    recipe: str = ""
    hub: str = ""
    revision: str = "main"
    drive: str = ""
    drive_folder: str = ""
    sha256: str = ""
    bytes: int = 0
    licence: str = ""
    gated: bool = False

    @property
    def fetchable(self) -> bool:
        """Return whether `--download` can fetch it."""
        return bool(self.hub or self.drive or self.drive_folder)

    def how_to_get(self, path: str, format: str | None = None) -> str:  # noqa: A002 - the name of the option
        """Return in a sentence what belongs at `path`, where nothing is yet, and the commands that put it there."""
        convert = join(["mmdisco", "convert", self.file, path, *(["--format", format] if format else [])])
        size = ", ".join([f"about {self.size}", *([self.licence] if self.licence else [])])
        gate = ", after accepting its licence there" if self.gated else ""
        other = "; or add --download" if self.fetchable else ""
        what = f"no {path}, {self.what}: download {self.file} ({size}) from {self.where}{self._command()}{gate}"
        return f"{what}, then: {convert}{other}"

    def _command(self) -> str:
        if self.hub:
            pinned = ["--revision", self.revision] if self.revision != "main" else []
            return f" (`{join(['hf', 'download', self.hub, self.file, *pinned, '--local-dir', '.'])}`)"
        if self.drive:
            return f" (`{join(['gdown', self.drive, '-O', self.file])}`)"
        return f" (https://drive.google.com/drive/folders/{self.drive_folder})" if self.drive_folder else ""


@dataclass(frozen=True)
class Wanted:
    """A published file whose conversion a recipe names as `path`; as text, the sentence of `Published.how_to_get`."""

    published: Published
    path: str
    format: str | None = None

    def __str__(self) -> str:
        """Say what it is and how it gets there."""
        return self.published.how_to_get(self.path, self.format)


@dataclass(frozen=True)
class NoOptions:
    """The options of an entry that no recipe names."""


@dataclass(frozen=True)
class ConverterSpec(Spec):
    """Describe a kind of checkpoint that `mmdisco convert` understands; `name` is what its `--format` takes.

    `build` decides whether the tensors of a file are of this kind. `published` are the files that its authors publish,
    and `key` is where a recipe names a converted one, such as backbones.film.weights.
    """

    options: type = field(default=NoOptions, init=False)
    published: tuple[Published, ...] = ()
    key: str = ""


@dataclass(frozen=True)
class ProtocolSpec(Spec):
    """Describe a way to evaluate a recipe, which `eval.protocol` names.

    It has no options: its factory takes nothing and gives a `mmdisco_cli.evaluation.protocol.Protocol`.
    """

    options: type = field(default=NoOptions, init=False)


@dataclass(frozen=True)
class KindSpec(Spec):
    """Describe a kind of modality, which a backbone declares as `ModalityInfo.kind`: its files, and how they are shown.

    `suffix` is the ending of the files that it writes, with the dot, and `reads` are those of further files that
    `--given` takes from a folder; `mime` is the type by which a page that holds a file names it. It has no options: its
    factory takes nothing and gives a `mmdisco_cli.kinds.contract.Kind`.
    """

    options: type = field(default=NoOptions, init=False)
    suffix: str
    reads: tuple[str, ...] = ()
    mime: str = "application/octet-stream"


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
def mmdisco_converters() -> Iterable[ConverterSpec]:  # type: ignore[empty-body]
    """Describe the checkpoints of other projects that this plugin converts."""


@hookspec
def mmdisco_protocols() -> Iterable[ProtocolSpec]:  # type: ignore[empty-body]
    """Describe the ways to evaluate a recipe that this plugin provides."""


@hookspec
def mmdisco_kinds() -> Iterable[KindSpec]:  # type: ignore[empty-body]
    """Describe the kinds of modalities that this plugin provides."""
