"""The samples that a report measures: made by `mmdisco sample` where they are missing, or found in a folder."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmdisco_cli.assembly.texts import unread_lines
from mmdisco_cli.data.manifest import Row, complete_rows, read_settings
from mmdisco_cli.errors import UsageError
from mmdisco_cli.evaluation.captions import SharedTexts
from mmdisco_cli.evaluation.real_clips import SUFFIX as REAL_SUFFIX
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run import console
from mmdisco_cli.run.distribution import Ranks, wait_for_all
from mmdisco_cli.run.options import EvalOptions, SampleOptions
from mmdisco_cli.sampling.job import SampleJob, plan_job
from mmdisco_cli.sampling.run import make_samples
from mmdisco_cli.sampling.settings import disagreement, is_control


def require_clips(recipe: Recipe) -> None:
    """Raise UsageError for a recipe whose samples are not audio and video."""
    if sorted(recipe.modalities) != ["audio", "video"]:
        have = " and ".join(recipe.modalities) or "none"
        raise UsageError(f"backbones: {recipe.eval.protocol} measures clips of audio and video, the recipe has {have}")


def sampled_rows(
    recipe: Recipe,
    options: EvalOptions,
    n: int,
    found: Sequence[Path] | None,
    ranks: Ranks | None = None,
    shared: SharedTexts | None = None,
) -> dict[str, Sequence[Path]]:
    """Return the independent and the guided clips, those found in --samples in place of guided ones."""
    independent = draw_clips(recipe, n, independent=True, ranks=ranks, shared=shared)
    if found is None or options.samples is None:
        found = draw_clips(recipe, n, ranks=ranks, shared=shared)
        _warn_of_formats({"independent": independent, "guided": found}, ranks)
        return {"independent": independent, "guided": found}
    warn_of_found(recipe, options, len(found), independent[0].parent)
    _warn_of_formats({"independent": independent, "guided": found}, ranks)
    return {"independent": independent, "guided": found}


def warn_of_found(recipe: Recipe, options: EvalOptions, n: int, independent: Path) -> None:
    """Warn where there are fewer samples in --samples than the recipe measures, or no control for them."""
    if options.samples is None:
        return
    if n < recipe.eval.n:
        console.warn(f"{options.samples}: {n} samples, so every row has as many instead of {recipe.eval.n}")
    warn_unless_control(independent, options.samples)


def _warn_of_formats(rows: Mapping[str, Sequence[Path]], ranks: Ranks | None) -> None:
    """Warn of samples whose file format differs from that of real clips: their codecs lose different amounts."""
    others = {row: paths[0].suffix for row, paths in rows.items() if paths and paths[0].suffix != REAL_SUFFIX}
    if others and (ranks is None or ranks.first):
        listed = " and ".join(f"{row} samples as {suffix}" for row, suffix in others.items())
        console.warn(f"real clips are written as {REAL_SUFFIX}, but {listed}: codecs cost them differently")


def how_sampled(recipe: Recipe, options: EvalOptions) -> dict[str, Any]:
    """Return for a report's protocol what was compared with what, and how it was sampled."""
    config = recipe.sample
    return {
        "samples": str(options.samples) if options.samples else None,
        "reference": str(options.reference) if options.reference else "held-out",
        **config.solver(),
        "guidance": dict(config.guidance),
        **({"gibbs_guidance": dict(config.gibbs_guidance)} if config.gibbs and config.gibbs_guidance else {}),
        "window": list(config.window),
        "weights": config.weights,
    }


def draw_clips(
    recipe: Recipe,
    n: int,
    *,
    independent: bool = False,
    ranks: Ranks | None = None,
    shared: SharedTexts | None = None,
) -> list[Path]:
    """Return n samples from where `mmdisco sample` keeps them, making those that are missing.

    Those of captions lie in a folder of their own, apart from what `mmdisco sample` made of other prompts.

    Raises:
        UsageError: that folder holds samples with other settings.
        DataError, PluginError, DeviceError, Stopped: as for `mmdisco sample`.
    """
    options = SampleOptions(n=n, seed=recipe.eval.seed, independent=independent)
    if shared:
        folder = Path("runs") / recipe.name / ("independent-captions" if independent else "captions")
        texts = shared.texts
        options = replace(options, prompts=texts.prompts, captions=texts.captions, out=folder if shared.own else None)
    job = plan_job(recipe, options)
    if clause := disagreement(job.directory, job.settings):
        raise UsageError(
            f"{job.directory}: holds samples made with {clause} (remove them, or measure others with --samples DIR)"
        )
    if shared and independent:  # said once for both
        for line in unread_lines(job.assembly, job.texts(range(n))):
            if ranks is None or ranks.first:
                console.warn(line)
    rows = _made(job, f"{'independent' if independent else 'guided'} samples in {job.directory}", ranks)
    return [job.directory / row["path"] for row in in_order(rows)]


def draw_given(
    recipe: Recipe, modality: str, sources: Sequence[Path], folder: Path, ranks: Ranks | None = None
) -> dict[Path, Path]:
    """Return by sample the clip that gave its modality: one sample for each clip of a folder.

    Samples of other clips are replaced.

    Raises:
        UsageError, DataError, PluginError, DeviceError, Stopped: as for `mmdisco sample`.
    """
    options = SampleOptions(n=len(sources), seed=recipe.eval.seed, out=folder, given={modality: sources[0].parent})
    job = plan_job(recipe, options)
    # This folder is the report's own: what the last one left there with other models is of no use.
    if disagreement(folder, job.settings):
        job = replace(job, options=replace(options, overwrite=True))
    rows = _made(job, f"samples with given {modality} in {folder}", ranks)
    return {folder / row["path"]: sources[int(row["index"])] for row in in_order(rows)}


def _made(job: SampleJob, title: str, ranks: Ranks | None) -> list[Row]:
    """Make a job's samples, each rank its share, and return the lines of them all."""
    rows: list[Row] = []
    if ranks is None or ranks.first:
        console.note(title)
    make_samples(job, rows.append)
    if ranks is None or ranks.world == 1:
        return rows
    wait_for_all(ranks)
    n, seed = job.options.n, job.options.seed
    return [row for row in complete_rows(job.directory) if int(row["index"]) < n and row["seed"] == seed]


def in_order(rows: Sequence[Row]) -> list[Row]:
    """Return lines of a manifest in order of index."""
    return sorted(rows, key=lambda row: int(row["index"]))


def warn_unless_control(independent: Path, samples: Path) -> None:
    """Warn where samples found in a folder were made otherwise than the independent ones beside them."""
    theirs, ours = read_settings(samples), read_settings(independent)
    if theirs is not None and ours is not None and not is_control(ours, theirs):
        console.warn(
            f"{independent}: not the same models and noise as {samples}, so neither is a control for the other"
        )
