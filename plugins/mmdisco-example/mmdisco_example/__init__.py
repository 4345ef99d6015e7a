"""Describe all that this plugin provides to mmdisco; nothing here imports torch."""

from collections.abc import Iterable
from dataclasses import dataclass

from mmdisco_cli.extractors.options import ExtractorOptions
from mmdisco_cli.hookspecs import (
    BackboneSpec,
    DatasetSpec,
    DiscriminatorSpec,
    ExtractorSpec,
    ProtocolSpec,
    hookimpl,
    lazy,
)
from mmdisco_cli.schema import option


@dataclass(frozen=True)
class ThereminOptions:
    """Options of the theremin in a recipe."""

    pitch: float = option(440.0, "middle of its range, in Hz", minimum=100, maximum=1000)


@dataclass(frozen=True)
class HandOptions:
    """Options of the hand in a recipe."""

    radius: float = option(0.1, "of the hand, in halves of the frame", minimum=0.05, maximum=0.2)


@dataclass(frozen=True)
class SlopeOptions:
    """Options of the slope in a recipe."""

    side: int = option(16, "pixels along each edge", minimum=2)


@dataclass(frozen=True)
class MelodiesOptions:
    """Options of the data set in a recipe."""

    clips: int = option(4096, "how many clips each part has", minimum=2)
    correlation: float = option(0.95, "of the hand with the sound", minimum=0, maximum=1)


@dataclass(frozen=True)
class DuetOptions:
    """Options of the discriminator in a recipe."""

    width: int = option(64, "channels of its layers", minimum=1)


@hookimpl
def mmdisco_backbones() -> Iterable[BackboneSpec]:
    """Describe base models: one of audio, one of video, and one of images under whatever label."""
    audio, video = lazy("mmdisco_example.backbone:build"), lazy("mmdisco_example.hand:build")
    yield BackboneSpec("theremin", "ten tones a second", ThereminOptions, audio, 1, ("audio",))
    yield BackboneSpec("hand", "the hand of somebody who plays it", HandOptions, video, 1, ("video",))
    yield BackboneSpec("slope", "images of a slope", SlopeOptions, lazy("mmdisco_example.generator:build"), 1)


@hookimpl
def mmdisco_datasets() -> Iterable[DatasetSpec]:
    """Describe a data set of audio, video and captions."""
    yield DatasetSpec("melodies", "a theremin and a hand", MelodiesOptions, lazy("mmdisco_example.dataset:build"), 1)


@hookimpl
def mmdisco_discriminators() -> Iterable[DiscriminatorSpec]:
    """Describe a discriminator."""
    build = lazy("mmdisco_example.discriminator:build")
    yield DiscriminatorSpec("duet", "compares step by step", DuetOptions, build, 1)


@hookimpl
def mmdisco_extractors() -> Iterable[ExtractorSpec]:
    """Describe an extractor, whose options are always these."""
    yield ExtractorSpec("notes", "pitch and level", ExtractorOptions, lazy("mmdisco_example.extractor:build"), 1)


@hookimpl
def mmdisco_protocols() -> Iterable[ProtocolSpec]:
    """Describe a way to evaluate a recipe."""
    yield ProtocolSpec("duet", "does the hand play what sounds", lazy("mmdisco_example.protocol:build"), 1)
