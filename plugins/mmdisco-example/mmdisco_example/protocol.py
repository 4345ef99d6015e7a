"""A protocol: how closely the hand follows the sound, in real clips, independent samples and guided ones."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mmdisco_cli.data.contract import Captioned
from mmdisco_cli.errors import UsageError
from mmdisco_cli.evaluation.models import draw_samples, open_clips, open_models
from mmdisco_cli.evaluation.protocol import EvalOptions, Protocol, Ranks, Recipe, Report
from mmdisco_example.backbone import mean_of

METRICS = ("pitch", "loudness")


def evaluate(recipe: Recipe, options: EvalOptions, ranks: Ranks) -> Report | None:
    """Return the correlation of sound and hand, in pitch and in loudness, of `eval.n` clips a row."""
    if not ranks.first:
        return None
    models = open_models(recipe)
    real = open_clips(recipe, models).split("heldout")
    clips = range(recipe.eval.n)
    texts = real.captions(clips, ("audio",))["audio"] if isinstance(real, Captioned) else []
    if tuple(models.modalities) != ("audio", "video") or not any(texts):
        raise UsageError("eval.protocol: duet needs audio and video, and captions")
    rows = {
        "real": models.encode(real.media(clips, ("audio", "video"))),
        "independent": draw_samples(recipe, models, prompts=texts, independent=True),
        "guided": draw_samples(recipe, models, prompts=texts),
    }
    means = torch.tensor([mean_of(text) for text in texts], device=models.device)
    found = {row: correlations(latents, means) for row, latents in rows.items()}
    metrics = {name: {row: found[row][name] for row in rows} for name in options.metrics or METRICS}
    table = [f"{name}: " + ", ".join(f"{row} {value:.2f}" for row, value in of.items()) for name, of in metrics.items()]
    return Report(recipe.eval.n, metrics, {"seed": options.seed, **recipe.sample.solver()}, table)


def correlations(latents: Mapping[str, Tensor], means: Tensor) -> dict[str, float]:
    """Return the correlation of both modalities by metric, of pitch apart from its mean (B,) by the caption."""
    both = torch.stack([x.flatten(2) for x in latents.values()])  # (2, B, C, T)
    both[:, :, 0] -= means[:, None]
    return {name: float(torch.corrcoef(both[:, :, c].flatten(1))[0, 1]) for c, name in enumerate(METRICS)}


def build() -> Protocol:
    return Protocol(METRICS, evaluate, takes_samples=False)
