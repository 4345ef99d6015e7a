"""What a report says of the discriminator itself: interaction, accuracy, size and what guiding with it costs."""

import random
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.assembly import Assembly, assemble
from mmdisco_cli.data.naming import UNUSABLE
from mmdisco_cli.devices import choose_device
from mmdisco_cli.discriminators.interaction import ADDITIVE
from mmdisco_cli.evaluation.cost import parameters, sampling_cost
from mmdisco_cli.evaluation.discriminator_levels import LEAST, Verdict, summary, verdicts
from mmdisco_cli.evaluation.films import Film
from mmdisco_cli.evaluation.report import align, number
from mmdisco_cli.measures.bootstrap import finite
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run import console
from mmdisco_cli.sampling.given import read_media

PAIRED = ("interaction", "accuracy", "logit", "calibration")
METRICS = (*PAIRED, "parameters", "sampling_cost")
MOST = 256
"""Real clips that the discriminator is asked about."""
BATCH = 16


def judge_discriminator(
    recipe: Recipe, chosen: Collection[str], films: Sequence[Film]
) -> tuple[dict[str, Any], list[str]]:
    """Return the chosen ones of `METRICS` and the lines that show them; `films` are real.

    Raises:
        UsageError, DataError, PluginError, DeviceError: as for `assemble`.
    """
    asked = [name for name in METRICS if name in chosen]
    if not asked:
        return {}, []
    assembly = assemble(recipe, choose_device())
    metrics: dict[str, Any] = {}
    lines: list[str] = []
    if any(name in PAIRED for name in asked):
        found, lines = _paired(recipe, assembly, films)
        metrics |= found
    if "parameters" in asked:
        metrics["parameters"] = parameters(assembly)
        lines.append(_size_line(metrics["parameters"]))
    if "sampling_cost" in asked:
        console.note("timing guided and independent sampling in turns")
        metrics["sampling_cost"] = sampling_cost(assembly, recipe.sample, recipe.eval.seed)
        lines.append(
            "guided sampling takes {ratio:.2f} times as long as independent".format(**metrics["sampling_cost"])
        )
    return metrics, lines


def latents_of(assembly: Assembly, films: Sequence[Film], seed: int) -> dict[str, Tensor]:
    """Return the latents (N, ...) of up to 256 films in random order, by modality, without unreadable ones."""
    order = random.Random(seed).sample(range(len(films)), min(MOST, len(films)))
    plans = assembly.modalities
    parts: dict[str, list[Tensor]] = {m: [] for m in plans}
    for start in range(0, len(order), BATCH):
        rows = [media for place in order[start : start + BATCH] if (media := _media(films[place], assembly))]
        stacked = {m: torch.stack([row[m] for row in rows]) for m in plans} if rows else {}
        for m, latent in assembly.encode(stacked).items():
            parts[m].append(latent.float())
    return {m: torch.cat(pieces) if pieces else torch.empty(0, *plans[m].latent_shape) for m, pieces in parts.items()}


def _media(film: Film, assembly: Assembly) -> dict[str, Tensor] | None:
    try:
        return {m: read_media(film.path, m, plan) for m, plan in assembly.modalities.items()}
    except UNUSABLE:
        return None  # named and counted where the row of real films is read


def _paired(recipe: Recipe, assembly: Assembly, films: Sequence[Film]) -> tuple[dict[str, Any], list[str]]:
    clean = latents_of(assembly, films, recipe.eval.seed)
    count = len(next(iter(clean.values())))
    if count < LEAST:
        console.warn(f"{count} real clips are too few for interaction and accuracy: it takes {LEAST}")
        return dict.fromkeys(PAIRED), []
    judged = verdicts(assembly, clean, recipe.eval.seed)
    interaction, accuracy = summary(judged, recipe.sample.window)
    if not interaction > ADDITIVE:
        console.warn(
            "the discriminator does not see the pair (no interaction): it can move each modality, but align nothing"
        )
    metrics: dict[str, Any] = {
        "interaction": {"value": finite(interaction), "levels": [_level(level, level.interaction) for level in judged]},
        "accuracy": {"value": finite(accuracy), "levels": [_level(level, level.accuracy) for level in judged]},
        "logit": {
            **{
                row: finite(_mean(judged, recipe, name)) for row, name in (("value", "logit"), ("shuffled", "shuffled"))
            },
            "levels": [{**_level(level, level.logit), "shuffled": finite(level.shuffled)} for level in judged],
        },
        "calibration": {
            "value": finite(_mean(judged, recipe, "calibration")),
            "levels": [_level(level, level.calibration) for level in judged],
        },
    }
    shown = f"interaction {number(interaction)}, accuracy {number(accuracy)}"
    head = f"discriminator on {count} real clips, where it guides: {shown}"
    return metrics, [*_table(judged), head]


def _mean(judged: Sequence[Verdict], recipe: Recipe, name: str) -> float:
    """Return the mean of one of a discriminator's figures over the levels at which it guides."""
    chosen = [one for one in judged if one.inside(recipe.sample.window)] or list(judged)
    return float(sum(getattr(one, name) for one in chosen) / len(chosen))


def _level(level: Verdict, value: float) -> Mapping[str, Any]:
    return {"u": level.u, "log_snr": dict(level.log_snr), "value": finite(value)}


def _table(judged: Sequence[Verdict]) -> list[str]:
    names = list(judged[0].log_snr)
    rows = [["u", *(f"log-SNR {m}" for m in names), "interaction", "accuracy", "logit", "shuffled"]]
    for level in judged:
        snr = [number(level.log_snr[m], 2) for m in names]
        logits = [number(level.logit, 2), number(level.shuffled, 2)]
        rows.append([f"{level.u:.2f}", *snr, number(level.interaction), number(level.accuracy, 3), *logits])
    return align(rows)


def _size_line(counted: Mapping[str, Any]) -> str:
    def shown(value: int | None) -> str:
        return "an unknown number of" if value is None else f"{value:,}"

    share = "" if counted["ratio"] is None else f": {counted['ratio']:.3f} of theirs"
    own, bases = shown(counted["discriminator"]), shown(counted["bases"])
    return f"{own} parameters in the discriminator, {bases} in the base models{share}"
