"""Describe the theremin to mmdisco; nothing here imports torch."""

from collections.abc import Iterable
from dataclasses import dataclass

from mmdisco_cli.hookspecs import BackboneSpec, hookimpl, lazy
from mmdisco_cli.schema import option


@dataclass(frozen=True)
class ThereminOptions:
    """Options of the theremin in a recipe."""

    pitch: float = option(440.0, "middle of its range, in Hz", minimum=100, maximum=2000)


@hookimpl
def mmdisco_backbones() -> Iterable[BackboneSpec]:
    """Describe the one base model of this plugin."""
    yield BackboneSpec("theremin", "gliding tones", ThereminOptions, lazy("mmdisco_example.model:build"), 1, ("audio",))
