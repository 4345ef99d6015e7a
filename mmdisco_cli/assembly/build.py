"""Build the models of a recipe: backbones of matching lengths, and the discriminator that joins them."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import cast

import torch
from torch import nn

from mmdisco_cli.assembly.discriminator import build_module, load_discriminator
from mmdisco_cli.assembly.factories import import_factory, recipe_errors
from mmdisco_cli.assembly.models import Assembly, LoadedDiscriminator
from mmdisco_cli.assembly.planning import plan_together
from mmdisco_cli.assembly.trial import BACKBONE, require_members
from mmdisco_cli.diffusion.backbone import KINDS, UNTRAINED, Base, JointBackbone, Request, as_joint, move
from mmdisco_cli.diffusion.coupling import Coupling, CouplingName
from mmdisco_cli.errors import PluginError, UsageError
from mmdisco_cli.hookspecs import BackboneSpec, Factory
from mmdisco_cli.recipes.hints import command_line, present_command, train_command
from mmdisco_cli.recipes.missing import require_files, untrained_discriminator
from mmdisco_cli.recipes.schema import Component, Recipe
from mmdisco_cli.registry.plugins import load_registry
from mmdisco_cli.weights_file import find_weights


def assemble(
    recipe: Recipe,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    with_discriminator: bool = True,
    *,
    outlined: bool = False,
) -> Assembly:
    """Build every model of a recipe; without its discriminator there is no guidance.

    `outlined` builds models without weights, on no device, to plan a run whose weights are missing.

    Raises:
        UsageError: the recipe names no weights for the discriminator, or options that do not fit.
        DataError: weights are missing or damaged, or the discriminator was trained with other backbones.
        PluginError: a backbone's plugin cannot be imported or cannot plan without weights, or nobody has its kind.
        DeviceError: a backbone cannot go to the device.
    """
    if not recipe.backbones:
        raise UsageError(f"recipe {recipe.name} names no backbones")
    if not outlined:
        require_files(recipe, with_discriminator)
    request = request_of(recipe)
    build = _outline if outlined else _build
    backbones = {label: build(label, part, request, device) for label, part in recipe.backbones.items()}
    plans = plan_together(backbones, request)
    models = {label: Base(backbone, plans[label]) for label, backbone in backbones.items()}
    alone = Assembly(models, Coupling(cast(CouplingName, recipe.coupling), recipe.coupling_shift), device, dtype)
    _require_kinds(alone)
    if outlined:
        return _with_outlined_discriminator(recipe, alone) if with_discriminator else alone
    _require_trained(recipe, alone)
    if not with_discriminator:
        return alone
    if recipe.sample.weights is None:
        raise UsageError(_no_weights(recipe))
    return join(alone, find_weights(recipe.sample.weights))


def join(alone: Assembly, weights: Path) -> Assembly:
    """Add the discriminator in a file to the backbones that it was trained with; errors as for `assemble`."""
    return replace(alone, discriminator=load_discriminator(weights, alone))


def build_discriminator(
    component: Component, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]
) -> nn.Module:
    """Build the untrained discriminator of a recipe for latent shapes without batch and sizes of pooled conditions."""
    return build_module(component.spec, component.options, shapes, pooled)


def request_of(recipe: Recipe) -> Request:
    """Return what a recipe requests of every backbone."""
    return Request(**asdict(recipe.request))


def _build(label: str, component: Component, request: Request, device: torch.device) -> JointBackbone:
    backbone = _built(label, component, import_factory(component.spec), request)
    move(backbone, device)
    return backbone


def _outline(label: str, component: Component, request: Request, device: torch.device) -> JointBackbone:
    lazy = component.spec.outline if isinstance(component.spec, BackboneSpec) else None
    if lazy is None:
        raise PluginError(f"backbones.{label}: {component.name} has no plan without its weights")
    return _built(label, component, lazy(), request)


def _built(label: str, component: Component, build: Factory, request: Request) -> JointBackbone:
    with recipe_errors(f"backbones.{label}"):
        backbone = build(label, component.options, request)
        require_members(component.spec, backbone, BACKBONE)
        return as_joint(backbone)


def _with_outlined_discriminator(recipe: Recipe, alone: Assembly) -> Assembly:
    component, weights = recipe.discriminator, recipe.sample.weights
    if component is None or weights is None:
        return alone
    with torch.device("meta"):
        module = build_discriminator(component, alone.shapes, alone.pooled)
    loaded = LoadedDiscriminator(module, {"name": component.spec.name}, Path(weights), "missing")
    return replace(alone, discriminator=loaded)


def _require_kinds(alone: Assembly) -> None:
    """Raise PluginError for a kind that nobody provides: of what was trained for hours no sample could be written."""
    further = {label: kind for label, kind in alone.kinds.items() if kind not in KINDS}
    for label, kind in further.items():
        try:
            load_registry().find("kind", kind)
        except PluginError as error:
            raise PluginError(f"backbones: {label}: {error}") from error


def _require_trained(recipe: Recipe, alone: Assembly) -> None:
    for label, name in alone.fingerprints.items():
        if name == UNTRAINED:
            raise UsageError(f"backbones.{label}.weights: missing; {_how_to_train(recipe, label)}")


def _no_weights(recipe: Recipe) -> str:
    if recipe.discriminator is None:
        return f"recipe {recipe.name} has no discriminator: --independent samples its base models alone"
    alone = ", or sample the base models alone with --independent" if present_command() in ("", "sample") else ""
    return f"recipe {recipe.name} names no trained discriminator: {untrained_discriminator(recipe)}{alone}"


def _how_to_train(recipe: Recipe, label: str) -> str:
    key = f"backbones.{label}.weights"
    if recipe.train.target != "backbone":
        return f"name its trained weights with --set {key}=PATH"
    file = f"runs/{recipe.name}/train/backbone.safetensors"
    return f"train it ({train_command(recipe)}) and give its file with --set {command_line(f'{key}={file}')}"
