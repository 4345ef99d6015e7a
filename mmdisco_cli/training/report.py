"""What a training says of itself: the memory a step takes, results on held-out clips, and the file of its weights."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mmdisco_cli.assembly import Assembly
from mmdisco_cli.backbones.additions import without_base
from mmdisco_cli.backbones.audio_codec import SAMPLE_RATE
from mmdisco_cli.backbones.latent_gaussian import LatentGaussian
from mmdisco_cli.backbones.logmel import SCALE, encode_logmel
from mmdisco_cli.backbones.token import TokenBackbone
from mmdisco_cli.cache.layout import HELDOUT
from mmdisco_cli.data.contract import Dataset, SplitDataset
from mmdisco_cli.diffusion.denoise import logit_of
from mmdisco_cli.discriminators.interaction import interaction, mismatched_tuples
from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.recipes.schema import Recipe, TrainConfig, to_plain
from mmdisco_cli.run.environment import versions
from mmdisco_cli.training.batch import Batch, LevelSampler, noised
from mmdisco_cli.training.conditions import Conditions, conditioned, encoded_of
from mmdisco_cli.training.data import BatchSource
from mmdisco_cli.training.directory import training_fingerprint
from mmdisco_cli.training.loop import Context, Loss, step_generator
from mmdisco_cli.training.metrics import not_finite
from mmdisco_cli.training.pairing import captions_of
from mmdisco_cli.weights_file import save_weights

COPIES = 5
"""Of every trained weight in float32: itself, its gradient, two moments of Adam, its average."""
PROBE = 4
"""Tuples on which the memory of a step is measured."""
CLIPS = HELDOUT
"""Held-out clips that are measured, at most."""
RECONSTRUCTED = 32
"""Of these, those that are encoded and decoded again."""
LOG_SNR = (-4, -3, -2, -1, 0, 1, 2, 3, 4)
BATCHES = 8
DECIBELS = 20 / 2.302585
"""Of one unit of natural logarithm of a magnitude."""
MEASURE = -1
"""The rank whose generators no training step ever uses."""


def heldout_of(dataset: SplitDataset, context: Context) -> SplitDataset | None:
    """Return the held-out clips, or None with a remark where there are none."""
    try:
        return dataset.split("heldout")
    except DataError as error:
        context.say(f"note: nothing is measured on held-out clips: {error}")
        return None


def clips_of(dataset: SplitDataset) -> int | str:
    """Return how many clips there are, in words where they never end."""
    return dataset.length if dataset.length is not None else "endless"


def step_memory(loss_of: Callable[[int], Loss], batch: int) -> int:
    """Return about how many bytes a step keeps for its backward pass, measured on a few tuples."""
    probe = min(batch, PROBE)
    storages: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        kept = loss_of(probe)(step_generator(0, 0, 0))
    total = sum(storages.values())
    del kept
    return total * batch // probe


@torch.no_grad()
def backbone_results(
    backbone: TokenBackbone, dataset: Dataset, config: TrainConfig, device: torch.device
) -> dict[str, Any]:
    """Return the error of x_0 by log-SNR, in units of the latents' unit variance, and that of the codec."""
    plan, name = backbone.plan(backbone.request), backbone.modality
    latents, texts = heldout_latents(backbone, dataset, device)
    media = dataset.media(range(min(RECONSTRUCTED, len(latents))), (name,))[name]
    decoded = backbone.decode(latents[: len(media)], plan).cpu()
    return {
        "clips": len(latents),
        "x0_error_by_log_snr": denoising_errors(backbone, latents, config, texts),
        "reconstruction": reconstruction_error(backbone, media, decoded),
    }


@torch.no_grad()
def heldout_latents(backbone: TokenBackbone, dataset: Dataset, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Return the latents (N, ...) of held-out clips, and their captions as the model reads them (N, D), if it does."""
    count = CLIPS if dataset.length is None else min(CLIPS, dataset.length)
    plan, name = backbone.plan(backbone.request), backbone.modality
    chunks = [range(i, min(i + 32, count)) for i in range(0, count, 32)]
    latents = torch.cat([backbone.encode(dataset.media(c, (name,))[name].to(device), plan) for c in chunks])
    return latents, _texts_of(backbone, dataset, count)


@torch.no_grad()
def denoising_errors(
    backbone: TokenBackbone, latents: Tensor, config: TrainConfig, texts: Tensor | None = None
) -> dict[str, float]:
    """Return the mean squared error of x_0 for latents (N, ...), under texts embedded as (N, D), at each log-SNR."""
    errors = {}
    for k, lam in enumerate(LOG_SNR):
        generator = step_generator(config.seed, MEASURE, k)
        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        log_snr = torch.full((len(latents),), float(lam), device=latents.device)
        alpha, sigma = (2 * log_snr[0]).sigmoid().sqrt(), (-2 * log_snr[0]).sigmoid().sqrt()
        noisy = alpha * latents + sigma * noise
        embedded = [None] * len(noisy.split(32)) if texts is None else texts.split(32)
        chunks = zip(noisy.split(32), log_snr.split(32), embedded, strict=True)
        predicted = torch.cat([backbone.denoiser(x, level, text) for x, level, text in chunks])
        errors[f"{lam:+d}"] = round(float((predicted - latents).square().mean()), 5)
    return errors


def _texts_of(backbone: TokenBackbone, dataset: Dataset, count: int) -> Tensor | None:
    """Return the captions of the first `count` clips as the model reads them, None where it reads none."""
    if not backbone.takes_prompts:
        return None
    captions = captions_of(dataset, range(count), (backbone.modality,))
    texts = captions.texts[backbone.modality] if captions else ("",) * count
    embedded = backbone.encode_prompt(texts, None, backbone.plan(backbone.request)).positive
    return embedded if isinstance(embedded, Tensor) else None


def reconstruction_error(backbone: TokenBackbone, media: Tensor, decoded: Tensor) -> dict[str, float]:
    """Return the codec's error: for video the PSNR in dB, for audio the mean log-mel difference in dB."""
    if backbone.options.codec == "sound":
        difference = (encode_logmel(decoded, SAMPLE_RATE) - encode_logmel(media, SAMPLE_RATE)).abs().mean()
        return {"logmel_db": round(float(difference) * SCALE * DECIBELS, 3)}
    peak = 2.0  # media lie in [-1, 1]
    return {"psnr_db": round(float(10 * torch.log10(peak**2 / (decoded - media).square().mean())), 2)}


def discriminator_results(
    discriminator: nn.Module,
    loss: Loss,
    real: BatchSource,
    assembly: Assembly,
    config: TrainConfig,
    batches: tuple[int, int] = (BATCHES, BATCHES),
) -> dict[str, Any]:
    """Return the figures of `loss` on held-out tuples, and the interaction, averaged over so many `batches` of each."""
    figures = [loss(step_generator(config.seed, MEASURE, k))[1] for k in range(batches[0])]
    means = {name: round(sum(row[name] for row in figures) / len(figures), 5) for name in figures[0]}
    return {**means, "interaction": round(measured_interaction(discriminator, real, assembly, config, batches[1]), 6)}


@torch.no_grad()
def measured_interaction(
    discriminator: nn.Module, real: BatchSource, assembly: Assembly, config: TrainConfig, batches: int = BATCHES
) -> float:
    """Return the interaction over noise levels as training draws them."""
    sampler = LevelSampler(assembly.bases, assembly.coupling, config.noise_levels)
    known = Conditions(assembly, encoded_of(real))

    def once(k: int) -> float:
        generator = step_generator(config.seed, MEASURE, BATCHES + k)
        clean = real(config.batch_size, generator).to(assembly.device)
        levels = sampler.draw(config.batch_size, generator)
        states = (noised(Batch(x), levels, generator).states for x in mismatched_tuples(clean.latents))
        conditions = known.of(clean.texts)
        bases = conditioned(assembly.bases, conditions)
        pooled = {m: c.pooled for m, c in conditions.items() if c.pooled is not None} or None
        return interaction(lambda x: logit_of(discriminator, bases, x, levels, pooled), *states)

    return sum(once(k) for k in range(batches)) / batches


@torch.no_grad()
def round_to_file(module: nn.Module) -> None:
    """Round the weights to the half precision of a weights file, so that what is measured is what is kept.

    Raises:
        DataError: a weight overflows half precision.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            rounded = tensor.half().to(tensor.dtype)
            if not bool(rounded.isfinite().all()):
                raise DataError(f"training diverged: {name} overflows half precision")
            tensor.copy_(rounded)


def export_backbone(
    backbone: TokenBackbone | LatentGaussian, codec: str, recipe: Recipe, path: Path, results: Mapping[str, Any]
) -> None:
    """Write a trained base model to `path`, rounding it in place; `codec` is the fingerprint of its codec.

    Of a model with a base only the tensors that differ from it are written.

    Raises:
        DataError: the file cannot be written.
    """
    round_to_file(backbone.module)
    tensors, name = backbone.module.state_dict(), getattr(backbone.options, "base", None)
    tensors, base = without_base(name, tensors) if name else (tensors, {})
    options = {key: value for key, value in to_plain(backbone.options).items() if key != "weights"}
    about = {
        "kind": "backbone",
        "modality": backbone.modality,
        "options": options,
        "request": asdict(backbone.request),
        "codec": codec,
        **({"base": base} if base else {}),
        **_provenance(recipe, results),
    }
    save_weights(path, tensors, about)


def export_discriminator(
    module: nn.Module, assembly: Assembly, recipe: Recipe, path: Path, results: Mapping[str, Any], *, captioned: bool
) -> None:
    """Write a trained discriminator to `path`, rounding it in place; errors as for `export_backbone`.

    `captioned` says that it was trained under the texts of its clips, and so may be given prompts.
    """
    if recipe.discriminator is None:
        raise UsageError(f"recipe {recipe.name} has no discriminator")
    round_to_file(module)
    about = {
        "kind": "discriminator",
        "name": recipe.discriminator.spec.name,
        "options": to_plain(recipe.discriminator.options),
        "shapes": {m: list(shape) for m, shape in assembly.shapes.items()},
        "coupling": str(assembly.coupling),
        "backbones": assembly.fingerprints,
        "given_fraction": recipe.train.given_fraction if len(assembly.models) > 1 else 0.0,
        **(_of_texts(assembly, recipe) if captioned else {}),
        **_provenance(recipe, results),
    }
    save_weights(path, module.state_dict(), about)


def _of_texts(assembly: Assembly, recipe: Recipe) -> dict[str, Any]:
    return {"captions": True, "text_dropout": recipe.train.text_dropout, "pooled": assembly.pooled}


def _provenance(recipe: Recipe, results: Mapping[str, Any]) -> dict[str, Any]:
    if bad := not_finite(results):
        raise DataError(f"training diverged: {bad} of the trained weights is not finite")
    return {
        "recipe": recipe.to_dict(),
        "fingerprint": training_fingerprint(recipe),
        "steps": recipe.train.steps,
        "results": dict(results),
        "versions": versions(),
    }
