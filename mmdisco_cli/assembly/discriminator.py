"""Load a trained discriminator, and check that it was trained with these very backbones."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from mmdisco_cli.assembly.factories import import_factory, recipe_errors
from mmdisco_cli.assembly.models import Assembly, LoadedDiscriminator
from mmdisco_cli.assembly.trial import require_module, try_discriminator
from mmdisco_cli.errors import DataError, UsageError, describe
from mmdisco_cli.hookspecs import Spec
from mmdisco_cli.registry.plugins import load_registry
from mmdisco_cli.run.files import SHORT, sha256_of
from mmdisco_cli.weights_file import load_weights, read_about

_FORM: dict[str, type] = {"name": str, "options": dict, "coupling": str, "shapes": dict, "backbones": dict}
"""The required keys of a discriminator's description, and their types."""


def build_module(
    spec: Spec, options: Any, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]
) -> nn.Module:
    """Build an untrained discriminator for latent shapes without batch and sizes of pooled conditions, by modality."""
    build = import_factory(spec)
    with recipe_errors(f"discriminator {spec.name}"):
        module: nn.Module = build(options, shapes, pooled)
    require_module(spec, module)
    return module


def load_discriminator(path: Path, beside: Assembly) -> LoadedDiscriminator:
    """Build the discriminator that a file describes, with its weights, beside backbones that it must fit.

    Raises:
        DataError: unreadable, or trained with another coupling, on other latents or with other backbones.
        PluginError: no plugin provides its architecture.
    """
    about = read_about(path, "discriminator")
    _check(path, about, beside)
    spec = load_registry().find("discriminator", about["name"])
    try:
        options = spec.options(**{k: tuple(v) if isinstance(v, list) else v for k, v in about["options"].items()})
    except TypeError as error:
        raise DataError(f"{path}: {spec.name} knows no such options ({error})") from error
    try:
        module = build_module(spec, options, beside.shapes, beside.pooled)
    except (UsageError, TypeError, ArithmeticError, RuntimeError) as error:
        raise DataError(f"{path}: its description is damaged: {describe(error)}") from error
    load_weights(path, module)
    module.eval().requires_grad_(False).to(beside.device)
    try_discriminator(spec, module, beside.shapes, beside.pooled)
    return LoadedDiscriminator(module, about, path, sha256_of(path)[:SHORT])


def _check(path: Path, about: Mapping[str, Any], beside: Assembly) -> None:
    """Raise DataError for the first thing in which the file and the recipe differ, with both values."""
    absent = [key for key in _FORM if key not in about]
    if absent:
        raise DataError(f"{path}: its description lacks {', '.join(absent)}")
    damaged = [key for key, kind in _FORM.items() if not isinstance(about[key], kind)]
    if "shapes" not in damaged:
        damaged += [f"shapes.{m}" for m, shape in about["shapes"].items() if not isinstance(shape, list)]
    if damaged:
        raise DataError(f"{path}: its description is damaged: {', '.join(damaged)}")
    for what, theirs, ours in _comparisons(about, beside):
        if theirs != ours:
            raise DataError(f"{path}: trained with {what} {theirs}, but the recipe has {ours}")
    if not ("released" in about or about.get("captions")) and beside.prompt_backbones:
        raise DataError(
            f"{path}: trained without captions, so its layers for prompts still have their random initial weights: it "
            f"cannot take those of {beside.prompt_backbones}. Train one with pooled: false there, and sample it so"
        )


def _comparisons(about: Mapping[str, Any], beside: Assembly) -> Iterator[tuple[str, Any, Any]]:
    yield "coupling", about["coupling"], str(beside.coupling)
    yield "modalities", sorted(about["shapes"]), sorted(beside.shapes)
    if "released" in about:
        # Its authors give neither the sizes nor the exact files of the base models: only the channels must match.
        for modality, shape in beside.shapes.items():
            yield f"{modality} latents with channels", about["shapes"][modality][0], shape[0]
        return
    for modality, shape in beside.shapes.items():
        yield f"{modality} latents of shape", tuple(about["shapes"][modality]), shape
    if about.get("captions"):
        for modality, size in beside.pooled.items():
            yield f"prompts of {modality} of size", about.get("pooled", {}).get(modality, 0), size
    ours, theirs = beside.fingerprints, about["backbones"]
    for label in [*ours, *(label for label in theirs if label not in ours)]:
        yield f"backbone {label}", theirs.get(label, "none"), ours.get(label, "none")
