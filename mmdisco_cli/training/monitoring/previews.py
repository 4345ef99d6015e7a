"""Previews: guided samples of fixed noise, drawn with the weights of the moment and written as files."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from mmdisco_cli.assembly import Assembly, LoadedDiscriminator
from mmdisco_cli.data.contract import Dataset
from mmdisco_cli.devices import DTYPES
from mmdisco_cli.errors import MMDiscoError
from mmdisco_cli.kinds.contract import Media
from mmdisco_cli.run.files import make_directory
from mmdisco_cli.run.options import SampleOptions
from mmdisco_cli.sampling.job import SampleJob, plan_job
from mmdisco_cli.sampling.outputs import files_by_label, require_finite, write_sample
from mmdisco_cli.sampling.run import DrawnBatch, draw_batch, in_batches
from mmdisco_cli.training.directory import PREVIEWS
from mmdisco_cli.training.loop import Context
from mmdisco_cli.training.monitoring.preview_rows import add_preview
from mmdisco_cli.training.pairing import captions_of

STATED = "training"
"""In place of the fingerprint of a file of weights."""


class _Interrupted(Exception):  # noqa: N818 - the loop saves the state and leaves
    """A signal came while a preview was drawn."""


@dataclass(frozen=True)
class Previews:
    """Draws the samples of a job into a run's folder; only the first rank has one."""

    job: SampleJob
    context: Context
    done: Callable[[], None]
    """Called after each preview: gives back what decoding has loaded."""

    def __call__(self, step: int) -> None:
        """Draw and write the samples of a step; leave them out where a signal comes."""
        folder = self.job.directory / f"{step:07d}"
        make_directory(folder)
        try:
            for batch in in_batches(range(self.job.options.n), self.job.config.batch_size):
                made = draw_batch(self.job, batch, self._leave_on_signal)
                for place, index in enumerate(batch):
                    self._write(step, index, made, place)
        except _Interrupted:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            self.done()

    def _leave_on_signal(self, step: int) -> None:
        if self.context.stop.received:
            raise _Interrupted

    def _write(self, step: int, index: int, made: DrawnBatch, place: int) -> None:
        job, item = self.job, {m: x[place] for m, x in made.media.items()}
        require_finite(index, "media", item)
        media = dict[str, Media](item) | {m: said[place] for m, said in made.texts.items()}
        folder, name = job.directory / f"{step:07d}", job.recipe.name
        about = {"title": f"{name} {index}, step {step}", "recipe": name, "step": str(step), "index": str(index)}
        plans, scale = job.assembly.modalities, job.config.scale
        files = write_sample(folder, str(index), media, job.parts, plans, about, scale)
        prompts = dict.fromkeys((job.captions(index) or {"": job.prompt(index) or ""}).values())
        row: dict[str, Any] = {
            "step": step,
            "index": index,
            "prompt": " / ".join(prompts),
            "files": {m: f"{PREVIEWS}/{step:07d}/{file}" for m, file in files_by_label(job.parts, files).items()},
            "kinds": {m: kind.name for m, kind in job.kinds.items()},
        }
        add_preview(job.directory, row)


def previews_of(
    module: nn.Module, assembly: Assembly, clips: Dataset | None, context: Context, done: Callable[[], None]
) -> Previews | None:
    """Return what draws previews of a discriminator; None where there are to be none, or with a warning can be none.

    Models that take prompts are given the captions of the first `clips`.
    """
    recipe = context.recipe
    if not recipe.train.preview_every or not context.ranks.first:
        return None
    captions = _captions(assembly, clips, recipe.train.previews)
    about = {
        "name": recipe.discriminator.spec.name if recipe.discriminator else "",
        "given_fraction": recipe.train.given_fraction if len(assembly.models) > 1 else 0.0,
        "captions": bool(captions),
        "text_dropout": recipe.train.text_dropout,
    }
    folder = context.directory.path / PREVIEWS
    loaded = LoadedDiscriminator(module, about, context.directory.weights, STATED)
    joined = replace(assembly, discriminator=loaded, dtype=DTYPES[recipe.sample.dtype])
    options = SampleOptions(
        n=recipe.train.previews, seed=recipe.train.seed, out=folder, captions=captions,
        prompts=("",) * len(captions),
    )  # fmt: skip
    try:
        job = plan_job(recipe, options, built=joined)
    except MMDiscoError as error:
        context.say(f"warning: no previews: {str(error).splitlines()[0]}")
        return None
    return Previews(job, context, done)


def _captions(assembly: Assembly, clips: Dataset | None, count: int) -> tuple[Mapping[str, str], ...]:
    """Return the texts of some clips by modality, nothing where no model reads any."""
    if clips is None or not assembly.reads_prompts:
        return ()
    found = captions_of(clips, range(min(count, clips.length or count)), tuple(assembly.modalities))
    if found is None:
        return ()
    return tuple(dict(zip(found.texts, texts, strict=True)) for texts in zip(*found.texts.values(), strict=True))
