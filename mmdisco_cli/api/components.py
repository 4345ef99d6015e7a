"""Objects in place of what a recipe names: a `Component` whose factory returns the object."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mmdisco_cli.api.tuples import TupleData
from mmdisco_cli.diffusion.backbone import Backbone, BackboneInfo, JointBackbone, Request
from mmdisco_cli.errors import UsageError
from mmdisco_cli.hookspecs import API_VERSION, BackboneSpec, DatasetSpec, Factory, NoOptions
from mmdisco_cli.recipes.schema import Component, Recipe

NAME = "object"
"""What a recipe calls an object: such a recipe describes a run, and cannot be read again."""


def with_backbones(recipe: Recipe, objects: Mapping[str, Any]) -> Recipe:
    """Return the recipe with objects in place of base models, by the names that these have in the recipe.

    An object is a `Backbone` or `JointBackbone`, or what the entry that the recipe names can `adopt`, such as a
    pipeline of diffusers.

    Raises:
        UsageError: the recipe has no base model of that name, or the object cannot be used as one.
    """
    if unknown := [label for label in objects if label not in recipe.backbones]:
        raise UsageError(f"backbones: recipe {recipe.name} has no {unknown[0]}, but {', '.join(recipe.backbones)}")
    made = {
        label: _component(label, part, objects[label]) for label, part in recipe.backbones.items() if label in objects
    }
    return replace(recipe, backbones={**recipe.backbones, **made})


def with_data(recipe: Recipe, dataset: TupleData) -> Recipe:
    """Return the recipe with a data set that is there."""

    def build(options: NoOptions, request: Request, kinds: Mapping[str, str]) -> TupleData:
        return dataset.of_kinds(kinds)

    spec = DatasetSpec(NAME, type(dataset).__name__, NoOptions, lambda: build, API_VERSION)
    return replace(recipe, data=Component(NAME, NoOptions(), spec))


def _component(label: str, part: Component, thing: Any) -> Component:
    if _is_backbone(thing):
        build = _giving(thing)
        spec = BackboneSpec(
            NAME, type(thing).__name__, NoOptions, lambda: build, API_VERSION, modalities=_modalities(thing)
        )
        return Component(NAME, NoOptions(), spec)
    if not isinstance(part.spec, BackboneSpec) or part.spec.adopt is None:
        kind = type(thing).__name__
        raise UsageError(f"backbones.{label}: a {kind} is not a Backbone, and {part.name} does not adopt it")
    adopt = part.spec.adopt()
    spec = replace(part.spec, factory=lambda: lambda *arguments: adopt(*arguments, thing), lacks=None)
    return Component(part.name, part.options, spec)


def _giving(thing: Any) -> Factory:
    return lambda label, options, request: thing


def _is_backbone(thing: Any) -> bool:
    return all(hasattr(thing, member) for member in ("info", "plan", "grid", "levels_at", "encode_prompt", "predict"))


def _modalities(backbone: Backbone | JointBackbone) -> tuple[str, ...]:
    info = backbone.info
    return tuple(m.modality for m in info.modalities) if isinstance(info, BackboneInfo) else (info.modality,)
