"""`mmdisco sample`: sample what is missing of a run, batch by batch, and write each sample once it is decoded."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from mmdisco_cli import __version__
from mmdisco_cli.data.manifest import Row, append_row, sizes_of
from mmdisco_cli.devices import keep_large_blocks
from mmdisco_cli.diffusion.backbone import TEXT, State
from mmdisco_cli.errors import Stopped
from mmdisco_cli.kinds.contract import Media
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run import console
from mmdisco_cli.run.options import SampleOptions
from mmdisco_cli.run.progress import Advance, progress
from mmdisco_cli.run.signals import SignalFlag
from mmdisco_cli.sampling.draw import Drawn, Watch, draw
from mmdisco_cli.sampling.job import SampleJob, plan_job
from mmdisco_cli.sampling.outputs import (
    LATENTS,
    files_by_label,
    require_finite,
    sample_stem,
    write_latents,
    write_sample,
)
from mmdisco_cli.sampling.overview import dry_run_lines, dry_run_record
from mmdisco_cli.sampling.settings import claim, require_agreement

Report = Callable[[Row], None]
OnStep = Callable[[int], None]
"""Called with the number of each step, from 1 on; it may raise to stop."""


def sample(recipe: Recipe, options: SampleOptions) -> tuple[SampleJob, int]:
    """Make the samples that are missing, print the path of each, and return the job and how many were made.

    Raises:
        UsageError: options that do not fit, or a directory of samples made with other settings.
        DataError, PluginError, DeviceError: models, given media or the output directory cannot be used.
        Stopped: by a signal; every sample listed in the manifest is complete.
    """
    job = plan_job(recipe, options)
    for text in job.notes:
        console.note(f"note: {text}")
    if options.dry_run:
        if not options.overwrite:
            require_agreement(job.directory, job.settings)
        _print_plan(job)
        return job, 0
    return job, make_samples(job, lambda row: _print_row(job, row))


def _print_plan(job: SampleJob) -> None:
    if job.options.json:
        console.record(dry_run_record(job))
        return
    for line in dry_run_lines(dry_run_record(job)):
        console.result(line)


def _print_row(job: SampleJob, row: Row) -> None:
    path = str(job.directory / row["path"])
    if not job.options.json:
        console.result(path)
        return
    files = {label: str(job.directory / name) for label, name in (row.get("files") or {}).items()}
    latents = {"latents": str(job.directory / row["latents"])} if row.get("latents") else {}
    console.record({**row, "path": path} | ({"files": files} if files else {}) | latents)


def make_samples(job: SampleJob, report: Report = lambda row: None) -> int:
    """Make the missing samples of a job and return their number; report the row of every sample, existing ones first.

    A row is that of the manifest, with its path relative to `job.directory`.

    Raises:
        UsageError, DataError, Stopped: as for `sample`.
    """
    claim(job.directory, job.settings, overwrite=job.options.overwrite)
    done = job.done()
    for row in done.values():
        report(row)
    pending = [index for index in job.indices if index not in done]
    if done and pending:
        console.note(f"{len(done)} of {len(job.indices)} samples are there already")
    if job.assembly.device.type == "cpu":
        keep_large_blocks()
    with SignalFlag().listening() as stop:
        _make(job, pending, report, stop)
    return len(pending)


def _make(job: SampleJob, pending: Sequence[int], report: Report, stop: SignalFlag) -> None:
    # Decoding and writing a sample counts as one more step, so that progress ends with the last sample.
    with progress("sampling", len(pending) * (job.steps + 1), enabled=job.shard.index == 0) as advance:
        counter = _Progress(job, len(pending), stop, advance)
        for batch in in_batches(pending, job.config.batch_size):
            for row in _batch(job, batch, partial(counter.after_step, len(batch))):
                append_row(job.directory, row)
                report(row)
                counter.after_sample()


@dataclass
class _Progress:
    """Count steps and samples, display progress, and raise Stopped between steps or samples after a signal."""

    job: SampleJob
    total: int
    stop: SignalFlag
    advance: Advance
    made: int = 0
    taken: int = 0

    def after_step(self, batch: int, step: int) -> None:
        self._stop_on_signal()
        self.taken = self.made * self.job.steps + step * batch
        self._display()

    def after_sample(self) -> None:
        self.made += 1
        self.taken = max(self.taken, self.made * self.job.steps)
        self._display()
        self._stop_on_signal()

    def _display(self) -> None:
        self.advance(self.taken + self.made, {"samples": self.made})

    def _stop_on_signal(self) -> None:
        if self.stop.name and self.made < self.total:
            left = f"{self.total - self.made} of {len(self.job.indices)} samples"
            raise Stopped(f"stopped by {self.stop.name} before {left}; run the same command again")


@dataclass(frozen=True)
class DrawnBatch:
    """Samples of one batch: what was drawn, their media (B, ...) by modality, and the strings of those of kind text."""

    drawn: Drawn
    media: State
    texts: Mapping[str, Sequence[str]]


def draw_batch(
    job: SampleJob, batch: Sequence[int], on_step: OnStep | None = None, watch: Watch | None = None
) -> DrawnBatch:
    """Sample and decode some of a job's samples; given modalities are as they were given. Callbacks as of `draw`."""
    real = {m: _real(job, m, batch) for m in job.sources}
    options = job.options
    drawn = draw(
        job.assembly, job.config, options.seed, batch,
        prompts=job.texts(batch), given=job.assembly.encode(real), independent=options.independent, on_step=on_step,
        watch=watch,
    )  # fmt: skip
    sampled = {m: x for m, x in drawn.latents.items() if m not in real}
    media = job.assembly.keyed(options.seed, batch).decode(sampled) | real
    said = job.assembly.to_text({m: x for m, x in media.items() if job.kinds[m].name == TEXT})
    return DrawnBatch(drawn, media, said)


def _batch(job: SampleJob, batch: Sequence[int], on_step: OnStep) -> Iterator[Row]:
    """Sample one batch; yield each sample's row once its files are written."""
    made = draw_batch(job, batch, on_step)
    for place, index in enumerate(batch):
        texts = {m: said[place] for m, said in made.texts.items()}
        yield _write(job, index, place, made.drawn, made.media, texts)


def _real(job: SampleJob, modality: str, batch: Sequence[int]) -> Tensor:
    """Return the media (B, ...) of a given modality."""
    read = job.sources[modality].read(batch, job.assembly.modalities[modality])
    return read if isinstance(read, Tensor) else job.assembly.from_text(modality, read)


def _write(job: SampleJob, index: int, place: int, drawn: Drawn, media: State, said: Mapping[str, str]) -> Row:
    """Write the files of one sample of a batch and return its row for the manifest."""
    options, stem = job.options, sample_stem(index, job.options.seed)
    about = {
        "title": f"{job.recipe.name} {index}" + (", independent" if options.independent else ""),
        "mmdisco": __version__,
        "recipe": job.recipe.name,
        "index": str(index),
        "seed": str(options.seed),
        "settings": str(job.settings["fingerprint"]),
        "guided": "no" if options.independent else "yes",
    }
    about |= {"prompt": prompt} if (prompt := job.prompt(index)) is not None else {}
    item, latents = _one(media, place), _one(drawn.latents, place) if job.config.keep_latents else {}
    require_finite(index, "media", item)
    require_finite(index, "latent", latents)
    plans, kept = job.assembly.modalities, dict[str, Media](item) | dict[str, Media](said)
    files = write_sample(job.directory, stem, kept, job.parts, plans, about, job.config.scale)
    row: Row = {
        "path": files[0].name,
        "files": files_by_label(job.parts, files),
        "kinds": {m: kind.name for m, kind in job.kinds.items()},
        "index": index,
        "seed": options.seed,
        "prompt": prompt,
        "logit": finite_or_none(drawn.logit, place),
        "guided": not options.independent,
        "given": {m: source.name(index) for m, source in job.sources.items()} or None,
        "settings": job.settings["fingerprint"],
    }
    if captions := job.captions(index):
        row["captions"] = dict(captions)
    if latents:
        row["latents"] = write_latents(job.directory / f"{stem}{LATENTS}", latents, about).name
    return row | {"bytes": sizes_of(job.directory, row)}


def finite_or_none(values: Tensor | None, place: int) -> float | None:
    """Return one value, None where there is none or where JSON could not hold it."""
    value = math.nan if values is None else float(values[place])
    return value if math.isfinite(value) else None


def _one(batch: State, place: int) -> dict[str, Tensor]:
    return {m: x[place] for m, x in batch.items()}


def in_batches(indices: Sequence[int], size: int) -> list[Sequence[int]]:
    """Return some indices in order, `size` at a time."""
    return [indices[i : i + size] for i in range(0, len(indices), size)]
