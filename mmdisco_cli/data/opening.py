"""From a recipe to its data set: clips of exactly the shapes that the recipe's models take."""

import inspect
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor

from mmdisco_cli.assembly.trial import try_dataset
from mmdisco_cli.data.contract import BuildDataset, Dataset, SplitDataset
from mmdisco_cli.diffusion.backbone import AUDIO, IMAGE, VIDEO, ModalityPlan, Request
from mmdisco_cli.errors import PluginError, UsageError
from mmdisco_cli.hookspecs import DatasetSpec
from mmdisco_cli.recipes.schema import Recipe


def open_dataset(
    recipe: Recipe,
    request: Request,
    plans: Mapping[str, ModalityPlan],
    progress: Callable[[int, int], None] | None = None,
    checked: Any = None,
    *,
    kinds: Mapping[str, str],
) -> SplitDataset:
    """Build the data set of a recipe for the modalities of `plans`, of `kinds`, and try its clips.

    `checked` is what `check_dataset` returned.

    Raises:
        UsageError: the recipe names no data, lacks an option, or has clips of another shape than the models take.
        DataError: none of its clips is usable.
        PluginError: the data set cannot be imported, fails or has the wrong form.
    """
    if recipe.data is None:
        raise UsageError(f"recipe {recipe.name} names no data to train on")
    try:
        build: BuildDataset = recipe.data.factory()
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{recipe.data.name!r} cannot be imported: {error}") from error
    arguments = {
        "modalities": tuple(plans), "kinds": {m: kinds[m] for m in plans}, "progress": progress, "checked": checked,
        **_audio_format(plans, kinds),
    }  # fmt: skip
    with _data_errors(plans):
        dataset = build(recipe.data.options, snapped(request, plans, kinds), **_accepted(build, arguments))
    try_dataset(recipe.data.spec, dataset, {m: kinds[m] for m in plans})
    return dataset


def check_dataset(recipe: Recipe) -> Any:
    """Look at what costs little of a recipe's data, before any model is loaded; errors as for `open_dataset`.

    Return what that function takes as `checked`; None where the recipe names no data, or they have no such check.
    """
    spec = recipe.data.spec if recipe.data else None
    if recipe.data is None or not isinstance(spec, DatasetSpec) or spec.check is None:
        return None
    try:
        check = spec.check()
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{recipe.data.name!r} cannot be imported: {error}") from error
    with _data_errors(recipe.modalities):
        return check(recipe.data.options, recipe.modalities)


@contextmanager
def _data_errors(modalities: Collection[str]) -> Iterator[None]:
    """Raise UsageError, naming the section of the recipe, for what a data set raises of options or modalities."""
    try:
        yield
    except KeyError as error:
        if not set(error.args[:1]) & set(modalities):
            raise
        raise _lacking(error.args[:1]) from error
    except ValueError as error:
        raise UsageError(f"data: {error}") from error


def check_shapes(dataset: Dataset, plans: Mapping[str, ModalityPlan]) -> None:
    """Raise UsageError where the first clip lacks a modality of the models, or has another shape than they take."""
    clip = {modality: media for modality in plans for media in _first(dataset, modality)}
    if absent := [modality for modality in plans if modality not in clip]:
        raise _lacking(absent)
    for modality, media in clip.items():
        made, wanted = tuple(media.shape[1:]), plans[modality].media_shape
        if made != wanted:
            raise UsageError(f"request: the data's {modality} is {made}, but the model takes {wanted}")


def snapped(request: Request, plans: Mapping[str, ModalityPlan], kinds: Mapping[str, str]) -> Request:
    """Return the request with the frames, rate and size that the video model planned, else the size of the images."""
    for modality, plan in plans.items():
        if kinds[modality] == VIDEO and len(plan.media_shape) == 4:
            _, frames, height, width = plan.media_shape
            return replace(request, frames=frames, fps=plan.rate, height=height, width=width)
    for modality, plan in plans.items():
        if kinds[modality] == IMAGE and len(plan.media_shape) == 3:
            _, height, width = plan.media_shape
            return replace(request, height=height, width=width)
    return request


def _first(dataset: Dataset, modality: str) -> list[Tensor]:
    """Return the media (1, ...) of the first clip, an empty list where the data set has no such modality."""
    try:
        media = dataset.media(range(1), (modality,))
    except KeyError as error:
        if error.args[:1] != (modality,):
            raise
        return []
    return [media[modality]] if modality in media else []


def _lacking(modalities: Iterable[str]) -> UsageError:
    return UsageError(f"data: has no {' and no '.join(modalities)}, which the recipe's backbones make")


def _audio_format(plans: Mapping[str, ModalityPlan], kinds: Mapping[str, str]) -> dict[str, int]:
    known = [plan for modality, plan in plans.items() if kinds[modality] == AUDIO and plan.rate]
    audio = [plan for plan in known if len(plan.media_shape) == 2]
    return {"channels": audio[0].media_shape[0], "sample_rate": round(audio[0].rate or 0)} if audio else {}


def _accepted(build: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return those arguments that a factory has a parameter for: most data sets need none of them."""
    parameters = inspect.signature(build).parameters
    return {name: value for name, value in arguments.items() if name in parameters}
