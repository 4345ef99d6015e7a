"""Figures of the discriminator itself in a report: interaction, accuracy, size and the cost of guidance."""

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
from mmdisco_cli.diffusion.guidance import LogSNRWindow
from mmdisco_cli.discriminators.interaction import ADDITIVE
from mmdisco_cli.evaluation.cost import parameters, sampling_cost
from mmdisco_cli.evaluation.discriminator_levels import LEAST, LevelFigures, estimated, measure_levels, summary
from mmdisco_cli.evaluation.tables import align, cell, number
from mmdisco_cli.kinds.known import OpenKind, kinds_by_label
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
    metrics = figures_in(found, recipe.sample.window, recipe.eval.seed)
    if not (metrics["interaction"]["value"] or 0.0) > ADDITIVE:
        console.warn(
            "the discriminator does not see the pair (no interaction): it can move each modality, but align nothing"
        )
    shown = ", ".join(f"{name} {cell(metrics[name])}" for name in ("interaction", "accuracy"))
    head = f"discriminator on {count} real clips, where it guides: {shown}"
    return metrics, [*_table(metrics), head]


def figures_in(found: Sequence[LevelFigures], window: LogSNRWindow, seed: int) -> dict[str, Any]:
    """Return the figures of `PAIRED` by name, each with its interval: over the window, and at every level."""
    metrics: dict[str, Any] = {
        name: {**summary(found, name, window, seed).as_json(), "levels": [_level(one, name, seed) for one in found]}
        for name in PAIRED
    }
    metrics["logit"]["shuffled"] = summary(found, "shuffled", window, seed).as_json()
    for level, one in zip(metrics["logit"]["levels"], found, strict=True):
        level["shuffled"] = estimated([one.figures["shuffled"]], seed).as_json()
    return metrics


def _level(level: LevelFigures, name: str, seed: int) -> dict[str, Any]:
    found = estimated([level.figures[name]], seed)
    return {"u": level.u, "log_snr": dict(level.log_snr), **found.as_json()}


def _table(metrics: Mapping[str, Any]) -> list[str]:
    levels = {name: metrics[name]["levels"] for name in ("interaction", "accuracy", "logit")}
    names = list(levels["logit"][0]["log_snr"])
    rows = [["u", *(f"log-SNR {m}" for m in names), "interaction \u2191", "accuracy \u2191", "logit", "shuffled"]]
    for interaction, accuracy, logit in zip(*levels.values(), strict=True):
        snr = [number(logit["log_snr"][m], 2) for m in names]
        rows.append([f"{logit['u']:.2f}", *snr, *map(cell, (interaction, accuracy, logit, logit["shuffled"]))])
    return align(rows)


def _size_line(counted: Mapping[str, Any]) -> str:
    def shown(value: int | None) -> str:
        return "an unknown number of" if value is None else f"{value:,}"

    share = "" if counted["ratio"] is None else f": {counted['ratio']:.3f} of theirs"
    own, bases = shown(counted["discriminator"]), shown(counted["bases"])
    return f"{own} parameters in the discriminator, {bases} in the base models{share}"
