"""From a recipe to models: its backbones on a device, the discriminator that joins them, and whether they fit."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import nn

from mmdisco_cli.diffusion.backbone import (
    UNTRAINED,
    Base,
    JointBackbone,
    ModalityInfo,
    ModalityPlan,
    Plan,
    Request,
    as_joint,
    keyed,
    move,
)
from mmdisco_cli.diffusion.coupling import Coupling
from mmdisco_cli.diffusion.noise import sample_keys
from mmdisco_cli.errors import DataError, PluginError, UsageError, describe
from mmdisco_cli.forms import BACKBONE, require_members, require_module, try_discriminator
from mmdisco_cli.hints import command_line, present_command, train_command
from mmdisco_cli.hookspecs import BackboneSpec, Factory, Spec
from mmdisco_cli.missing import require_files, untrained_discriminator
from mmdisco_cli.plugins import load_registry
from mmdisco_cli.recipe_schema import Component, Recipe
from mmdisco_cli.weights_file import find_weights, load_weights, read_about

_FORM: dict[str, type] = {"name": str, "options": dict, "coupling": str, "shapes": dict, "backbones": dict}
"""What the description of a discriminator must have."""


@dataclass(frozen=True)
class LoadedDiscriminator:
    """A trained discriminator, what its file says of it, and the fingerprint of that file."""

    module: nn.Module
    about: Mapping[str, Any]
    path: Path
    fingerprint: str

    @property
    def knows_given(self) -> bool:
        """Return whether its training showed it modalities that are almost clean, as given ones are held."""
        return float(self.about.get("given_fraction", 0)) > 0


@dataclass(frozen=True)
class Assembly:
    """The models of a recipe as a run uses them; `backbones` by the recipe's labels, one plan each."""

    backbones: Mapping[str, JointBackbone]
    plans: Mapping[str, Plan]
    coupling: Coupling
    device: torch.device
    dtype: torch.dtype = torch.float32
    discriminator: LoadedDiscriminator | None = None

    @property
    def modalities(self) -> dict[str, ModalityPlan]:
        """Return the plan of every modality, in the order of the recipe."""
        return {m: plan for whole in self.plans.values() for m, plan in whole.modalities.items()}

    @property
    def infos(self) -> dict[str, ModalityInfo]:
        """Return the description of every modality, in the order of the recipe."""
        return {info.modality: info for backbone in self.backbones.values() for info in backbone.info.modalities}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the latent shape of every modality, without batch."""
        return {m: plan.latent_shape for m, plan in self.modalities.items()}

    @property
    def pooled(self) -> dict[str, int]:
        """Return the size of every modality's pooled condition, 0 where it has none."""
        return {m: info.pooled_dim for m, info in self.infos.items()}

    @property
    def notes(self) -> tuple[str, ...]:
        """Return everything that the backbones had to snap."""
        return tuple(note for plan in self.plans.values() for note in plan.notes)

    def keyed(self, seed: int, indices: Sequence[int]) -> Self:
        """Return the same models for the samples `indices`, on which alone depends what a model draws by itself."""
        backbones = {
            label: keyed(backbone, sample_keys(seed, indices, label)) for label, backbone in self.backbones.items()
        }
        return replace(self, backbones=backbones)

    def bases(self, prompts: Sequence[str] = (), negative: str = "") -> list[Base]:
        """Return the models conditioned on prompts, one a sample; without any, unconditioned.

        `negative` is what all are guided away from in place of the models' own, which mostly is the empty text.
        """
        negatives = [negative] * len(prompts) if negative else None
        return [
            Base(b, self.plans[label], b.encode_prompt(prompts, negatives, self.plans[label]) if prompts else {})
            for label, b in self.backbones.items()
        ]


def assemble(
    recipe: Recipe,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    with_discriminator: bool = True,
) -> Assembly:
    """Build every model of a recipe; without a discriminator nothing guides.

    Raises:
        UsageError: the recipe names no weights for the discriminator, or options that do not fit.
        DataError: weights are missing or damaged, or the discriminator was trained beside other backbones.
        PluginError: a backbone's plugin cannot be imported.
        DeviceError: a backbone cannot go to the device.
    """
    require_files(recipe, with_discriminator)
    backbones = build_backbones(recipe, device)
    _require_trained(recipe, backbones)
    plans = plan_together(backbones, request_of(recipe))
    alone = Assembly(backbones, plans, cast(Coupling, recipe.coupling), device, dtype)
    if not with_discriminator:
        return alone
    if recipe.sample.weights is None:
        raise UsageError(_no_weights(recipe))
    return join(alone, find_weights(recipe.sample.weights))


def plan_together(backbones: Mapping[str, JointBackbone], request: Request) -> dict[str, Plan]:
    """Return every model's plan; where their lengths differ, those that can follow the one of the coarsest steps."""
    plans = {label: backbone.plan(request) for label, backbone in backbones.items()}
    timed = [(p.rate, p.seconds) for plan in plans.values() for p in plan.modalities.values() if p.rate]
    if not timed:
        return plans
    seconds = min(timed)[1]
    return {label: _following(backbones[label], plan, request, seconds) for label, plan in plans.items()}


def _following(backbone: JointBackbone, plan: Plan, request: Request, seconds: float) -> Plan:
    """Return the plan for this length, if the model comes closer to it so."""

    def gap(plan: Plan) -> float:
        return max(abs(p.seconds - seconds) for p in plan.modalities.values() if p.rate)

    if not any(p.rate for p in plan.modalities.values()) or gap(plan) == 0:
        return plan
    other = backbone.plan(replace(request, seconds=seconds))
    if gap(other) >= gap(plan):
        return plan
    names = " and ".join(other.modalities)
    return replace(other, notes=(*other.notes, f"{names}: {seconds:g} s long, to fit the other models"))


def outline(recipe: Recipe) -> Assembly:
    """Return the models of a recipe without weights, on no device: what a plan can tell before they are there.

    Raises:
        PluginError: a backbone's plugin cannot say what it would make.
        UsageError: options that do not fit.
    """
    request, backbones = request_of(recipe), {}
    for label, component in recipe.backbones.items():
        lazy = component.spec.outline if isinstance(component.spec, BackboneSpec) else None
        if lazy is None:
            raise PluginError(f"backbones.{label}: {component.name} has no plan without its weights")
        with _naming(f"backbones.{label}"):
            backbones[label] = _made(component.spec, lazy(), label, component.options, request)
    plans = plan_together(backbones, request)
    alone = Assembly(backbones, plans, cast(Coupling, recipe.coupling), torch.device("cpu"))
    if recipe.discriminator is None or recipe.sample.weights is None:
        return alone
    with torch.device("meta"):
        module = build_discriminator(recipe.discriminator, alone.shapes, alone.pooled)
    about = {"name": recipe.discriminator.spec.name}
    return replace(alone, discriminator=LoadedDiscriminator(module, about, Path(recipe.sample.weights), "missing"))


def join(alone: Assembly, weights: Path) -> Assembly:
    """Add the discriminator in a file to backbones that it was trained beside; errors as for `assemble`."""
    loaded = load_discriminator(weights, alone)
    loaded.module.to(alone.device)
    try_discriminator(load_registry().find("discriminator", loaded.about["name"]), loaded.module, alone.shapes)
    return replace(alone, discriminator=loaded)


def build_backbones(recipe: Recipe, device: torch.device) -> dict[str, JointBackbone]:
    """Build the backbones of a recipe by label; untrained where the recipe names no weights for one."""
    if not recipe.backbones:
        raise UsageError(f"recipe {recipe.name} names no backbones")
    require_files(recipe, discriminator=False)
    request = request_of(recipe)
    backbones = {}
    for label, component in recipe.backbones.items():
        build = _imported(component.spec)
        with _naming(f"backbones.{label}"):
            backbones[label] = _made(component.spec, build, label, component.options, request)
        move(backbones[label], device)
    return backbones


def build_discriminator(
    component: Component, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]
) -> nn.Module:
    """Build the untrained discriminator of a recipe for latents and pooled conditions of these sizes."""
    return _build(component.spec, component.options, shapes, pooled)


def fingerprints(backbones: Mapping[str, JointBackbone]) -> dict[str, str]:
    """Return what names the exact weights of every backbone, by label: what a discriminator's file must say."""
    return {label: backbone.info.fingerprint for label, backbone in backbones.items()}


def showing_prompts(backbones: Mapping[str, JointBackbone]) -> str:
    """Name the backbones whose prompts a discriminator would be shown, empty where there are none."""
    labels = (label for label, b in backbones.items() if any(info.pooled_dim for info in b.info.modalities))
    return " and ".join(f"backbones.{label}" for label in labels)


def request_of(recipe: Recipe) -> Request:
    """Return what a recipe asks of every backbone."""
    return Request(**asdict(recipe.request))


def load_discriminator(path: Path, beside: Assembly) -> LoadedDiscriminator:
    """Build the discriminator that a file describes, and check that it was trained beside these very backbones.

    Raises:
        DataError: unreadable, or trained with another coupling, on other latents or beside other backbones.
        PluginError: nobody provides its architecture.
    """
    about = read_about(path, "discriminator")
    _check(path, about, beside)
    spec = load_registry().find("discriminator", about["name"])
    try:
        options = spec.options(**{k: tuple(v) if isinstance(v, list) else v for k, v in about["options"].items()})
    except TypeError as error:
        raise DataError(f"{path}: {spec.name} knows no such options ({error})") from error
    try:
        module = _build(spec, options, beside.shapes, beside.pooled)
    except (UsageError, TypeError, ArithmeticError, RuntimeError) as error:
        raise DataError(f"{path}: its description is damaged: {describe(error)}") from error
    load_weights(path, module)
    module.eval().requires_grad_(False)
    return LoadedDiscriminator(module, about, path, hashlib.sha256(path.read_bytes()).hexdigest()[:16])


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
    if "released" not in about and (shown := showing_prompts(beside.backbones)):
        raise DataError(
            f"{path}: trained without captions, so its layers for prompts are as random as they began: it cannot be "
            f"shown those of {shown}. Train one with pooled: false there, and sample it so"
        )


def _comparisons(about: Mapping[str, Any], beside: Assembly) -> Iterator[tuple[str, Any, Any]]:
    yield "coupling", about["coupling"], beside.coupling
    yield "modalities", sorted(about["shapes"]), sorted(beside.shapes)
    if "released" in about:
        # Its authors name neither the sizes nor the very files of the base models: what must fit is the channels.
        for modality, shape in beside.shapes.items():
            yield f"{modality} latents with channels", about["shapes"][modality][0], shape[0]
        return
    for modality, shape in beside.shapes.items():
        yield f"{modality} latents of shape", tuple(about["shapes"][modality]), shape
    ours = fingerprints(beside.backbones)
    theirs = about["backbones"]
    for label in [*ours, *(label for label in theirs if label not in ours)]:
        yield f"backbone {label}", theirs.get(label, "none"), ours.get(label, "none")


def _build(spec: Spec, options: Any, shapes: Mapping[str, tuple[int, ...]], pooled: Mapping[str, int]) -> nn.Module:
    build = _imported(spec)
    with _naming(f"discriminator {spec.name}"):
        module: nn.Module = build(options, shapes, pooled)
    require_module(spec, module)
    return module


def _made(spec: Spec, build: Factory, label: str, options: Any, request: Request) -> JointBackbone:
    backbone = build(label, options, request)
    require_members(spec, backbone, BACKBONE)
    return as_joint(backbone)


def _imported(spec: Spec) -> Any:
    try:
        return spec.factory()
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{spec.name!r} cannot be imported: {error}") from error


@contextmanager
def _naming(part: str) -> Iterator[None]:
    """Say of which part of the recipe a ValueError of the code that builds it complains."""
    try:
        yield
    except ValueError as error:
        raise UsageError(f"{part}: {error}") from error


def _require_trained(recipe: Recipe, backbones: Mapping[str, JointBackbone]) -> None:
    for label, name in fingerprints(backbones).items():
        if name == UNTRAINED:
            raise UsageError(f"backbones.{label}.weights: missing; {_how_base(recipe, label)}")


def _no_weights(recipe: Recipe) -> str:
    if recipe.discriminator is None:
        return f"recipe {recipe.name} has no discriminator: --independent samples its base models alone"
    alone = ", or sample the base models alone with --independent" if present_command() in ("", "sample") else ""
    return f"recipe {recipe.name} names no trained discriminator: {untrained_discriminator(recipe)}{alone}"


def _how_base(recipe: Recipe, label: str) -> str:
    key = f"backbones.{label}.weights"
    if recipe.train.target != "backbone":
        return f"name its trained weights with --set {key}=PATH"
    file = f"runs/{recipe.name}/train/backbone.safetensors"
    return f"train it ({train_command(recipe)}) and give its file with --set {command_line(f'{key}={file}')}"
