"""What a report says of the discriminator itself: interaction, accuracy, size and what guiding with it costs."""

import random
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mmdisco_cli.assembly import Assembly, assemble
from mmdisco_cli.data.naming import UNUSABLE
from mmdisco_cli.devices import choose_device
from mmdisco_cli.diffusion.backbone import ModalityPlan
from mmdisco_cli.discriminators.interaction import ADDITIVE
from mmdisco_cli.evaluation.cost import parameters, sampling_cost
from mmdisco_cli.evaluation.discriminator_levels import LEAST, LevelFigures, measure_levels, summary
from mmdisco_cli.evaluation.tables import align, number
from mmdisco_cli.kinds.known import OpenKind, kinds_by_label
from mmdisco_cli.measures.bootstrap import finite
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run import console
from mmdisco_cli.sampling.given import read_media

PAIRED = ("interaction", "accuracy", "logit", "calibration")
METRICS = (*PAIRED, "parameters", "sampling_cost")
MOST = 256
"""Real clips that the discriminator is evaluated on."""
BATCH = 16


def measure_discriminator(
    recipe: Recipe, chosen: Collection[str], clips: Sequence[Path]
) -> tuple[dict[str, Any], list[str]]:
    """Return the chosen ones of `METRICS` and the lines that show them; `clips` are real.

    Raises:
        UsageError, DataError, PluginError, DeviceError: as for `assemble`.
    """
    wanted = [name for name in METRICS if name in chosen]
    if not wanted:
        return {}, []
    assembly = assemble(recipe, choose_device())
    metrics: dict[str, Any] = {}
    lines: list[str] = []
    if any(name in PAIRED for name in wanted):
        found, lines = _paired(recipe, assembly, clips)
        metrics |= found
    if "parameters" in wanted:
        metrics["parameters"] = parameters(assembly)
        lines.append(_size_line(metrics["parameters"]))
    if "sampling_cost" in wanted:
        console.note("timing guided and independent sampling in turns")
        metrics["sampling_cost"] = sampling_cost(assembly, recipe.sample, recipe.eval.seed)
        lines.append(
            "guided sampling takes {ratio:.2f} times as long as independent".format(**metrics["sampling_cost"])
        )
    return metrics, lines


def latents_of(assembly: Assembly, clips: Sequence[Path], seed: int) -> dict[str, Tensor]:
    """Return the latents (N, ...) of up to 256 clips in random order, by modality, without unreadable ones."""
    order = random.Random(seed).sample(range(len(clips)), min(MOST, len(clips)))
    plans = assembly.modalities
    kinds, _ = kinds_by_label(assembly.kinds, plans, assembly.speaking)
    parts: dict[str, list[Tensor]] = {m: [] for m in plans}
    for start in range(0, len(order), BATCH):
        rows = [media for place in order[start : start + BATCH] if (media := _media(clips[place], plans, kinds))]
        stacked = {m: torch.stack([row[m] for row in rows]) for m in plans} if rows else {}
        for m, latent in assembly.encode(stacked).items():
            parts[m].append(latent.float())
    return {m: torch.cat(pieces) if pieces else torch.empty(0, *plans[m].latent_shape) for m, pieces in parts.items()}


def _media(path: Path, plans: Mapping[str, ModalityPlan], kinds: Mapping[str, OpenKind]) -> dict[str, Tensor] | None:
    try:
        return {m: read_media(path, m, plan, kinds[m]) for m, plan in plans.items()}
    except UNUSABLE:
        return None  # named and counted where the row of real clips is measured


def _paired(recipe: Recipe, assembly: Assembly, clips: Sequence[Path]) -> tuple[dict[str, Any], list[str]]:
    clean = latents_of(assembly, clips, recipe.eval.seed)
    count = len(next(iter(clean.values())))
    if count < LEAST:
        console.warn(f"{count} real clips are too few for interaction and accuracy: it takes {LEAST}")
        return dict.fromkeys(PAIRED), []
    found = measure_levels(assembly, clean, recipe.eval.seed)
    interaction, accuracy = summary(found, recipe.sample.window)
    if not interaction > ADDITIVE:
        console.warn(
            "the discriminator does not see the pair (no interaction): it can move each modality, but align nothing"
        )
    metrics: dict[str, Any] = {
        "interaction": {"value": finite(interaction), "levels": [_level(level, level.interaction) for level in found]},
        "accuracy": {"value": finite(accuracy), "levels": [_level(level, level.accuracy) for level in found]},
        "logit": {
            **{row: finite(_mean(found, recipe, name)) for row, name in (("value", "logit"), ("shuffled", "shuffled"))},
            "levels": [{**_level(level, level.logit), "shuffled": finite(level.shuffled)} for level in found],
        },
        "calibration": {
            "value": finite(_mean(found, recipe, "calibration")),
            "levels": [_level(level, level.calibration) for level in found],
        },
    }
    shown = f"interaction {number(interaction)}, accuracy {number(accuracy)}"
    head = f"discriminator on {count} real clips, where it guides: {shown}"
    return metrics, [*_table(found), head]


def _mean(found: Sequence[LevelFigures], recipe: Recipe, name: str) -> float:
    """Return the mean of one of a discriminator's figures over the levels at which it guides."""
    chosen = [one for one in found if one.inside(recipe.sample.window)] or list(found)
    return float(sum(getattr(one, name) for one in chosen) / len(chosen))


def _level(level: LevelFigures, value: float) -> Mapping[str, Any]:
    return {"u": level.u, "log_snr": dict(level.log_snr), "value": finite(value)}


def _table(found: Sequence[LevelFigures]) -> list[str]:
    names = list(found[0].log_snr)
    rows = [["u", *(f"log-SNR {m}" for m in names), "interaction \u2191", "accuracy \u2191", "logit", "shuffled"]]
    for level in found:
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
