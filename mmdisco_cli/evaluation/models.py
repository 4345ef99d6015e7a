"""What protocols take: a recipe's models, its clips, and samples drawn as `mmdisco sample` draws them."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mmdisco_cli.assembly import Assembly, assemble, request_of
from mmdisco_cli.assembly.models import Prompts
from mmdisco_cli.data.contract import SplitDataset
from mmdisco_cli.data.opening import check_shapes, open_dataset
from mmdisco_cli.devices import choose_device
from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run.progress import progress
from mmdisco_cli.sampling.draw import draw, require_steps

__all__ = ["Assembly", "Prompts", "draw_samples", "open_clips", "open_models"]


def open_models(recipe: Recipe) -> Assembly:
    """Return a recipe's base models and its trained discriminator, on the GPU where there is one.

    Its `encode` turns media into latents and its `decode` latents into media, (B, ...) by modality; `modalities` has
    the plan of each modality, `discriminator` the trained one, if the recipe names any.

    Raises:
        UsageError: the recipe names no models or no weights, or a number of steps that a model does not have.
        DataError, PluginError, DeviceError: weights, a plugin or the device cannot be used.
    """
    models = assemble(recipe, choose_device())
    require_steps(models, recipe.sample)
    return models


def open_clips(recipe: Recipe, models: Assembly) -> SplitDataset:
    """Return a recipe's data set, of media (B, *media_shape) as its models take them: `split("heldout")` to measure.

    Raises:
        UsageError: the recipe names no data, or data that do not fit the models.
        DataError, PluginError: none of its clips is usable, or its plugin fails.
    """
    clips = open_dataset(recipe, request_of(recipe), models.modalities, kinds=models.kinds)
    check_shapes(clips.split("train"), models.modalities)
    return clips


def draw_samples(
    recipe: Recipe,
    models: Assembly,
    *,
    prompts: Prompts = (),
    given: Mapping[str, Tensor] | None = None,
    independent: bool = False,
) -> State:
    """Return the latents (n, *latent_shape) of `eval.n` samples of `eval.seed`, by modality, in batches.

    `prompts` are one a sample, for all modalities or by modality; `given` are latents (n, ...) of modalities that are
    not sampled. `independent` samples from the same noise without guidance.
    """
    n, size = recipe.eval.n, recipe.sample.batch_size
    parts = []
    with progress("sampling", n) as advance:
        for start in range(0, n, size):
            rows = range(start, min(start + size, n))
            own = {m: x[start : rows.stop] for m, x in (given or {}).items()}
            found = draw(
                models, recipe.sample, recipe.eval.seed, rows,
                prompts=_texts(prompts, rows), given=own, independent=independent,
            )  # fmt: skip
            parts.append(found.latents)
            advance(rows.stop, {})
    return {m: torch.cat([part[m] for part in parts]) for m in parts[0]}


def _texts(prompts: Prompts, rows: Sequence[int]) -> Prompts:
    if isinstance(prompts, Mapping):
        return {m: [texts[row] for row in rows] for m, texts in prompts.items()}
    return [prompts[row] for row in rows] if prompts else ()
