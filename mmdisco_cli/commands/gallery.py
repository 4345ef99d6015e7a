"""The gallery of a run, each sample beside that of the same noise without guidance; and its sheet."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdisco_cli.data.manifest import MANIFEST, Row, complete_rows, read_settings, sample_key
from mmdisco_cli.diffusion.backbone import VECTOR
from mmdisco_cli.errors import DataError, PluginError, UsageError
from mmdisco_cli.evaluation.run import open_protocol
from mmdisco_cli.page.gallery import write_gallery
from mmdisco_cli.page.marking import MARKING, Marking
from mmdisco_cli.page.sheet import MOST, write_sheet
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.run import console
from mmdisco_cli.sampling.job import SampleJob
from mmdisco_cli.sampling.settings import is_control

PAGE = "index.html"


def write_page(job: SampleJob, *, force: bool = True) -> Path | None:
    """Write index.html with all samples of a job's directory, of every shard and seed; None where they are all vectors.

    What is there already of the other kind, guided or independent, is shown beside, and gets a page that shows these:
    whichever was made first. `force=False` keeps a page that is newer than its samples. After making a sample it must
    be forced: while another shard was writing the page, that sample may have been missing.
    """
    page, partner = job.directory / PAGE, partner_of(job.directory, job.settings)
    sources = [directory / MANIFEST for directory in (job.directory, partner) if directory]
    if not force and _is_fresh(page, sources):
        return page
    written = _write(job.directory, partner, job.recipe)
    if partner and not _is_fresh(partner / PAGE, sources):
        _write(partner, job.directory, job.recipe)
    return written


def write_job_sheet(job: SampleJob) -> Path:
    """Write sheet.png with the samples that a job names, those of all its shards that are there; return its path."""
    seed, n = job.options.seed, job.options.n
    rows = [row for row in complete_rows(job.directory) if row["seed"] == seed and row["index"] < n]
    shown = [row for row in rows if row.get("kinds") and row.get("files")]
    count = f"{len(shown)} samples" if len(shown) <= MOST else f"the first {MOST} of {len(shown)} samples"
    path = write_sheet(job.directory, shown, job.directory / "sheet.png", marking_of(job.recipe))
    console.note(f"{count} on {path}")
    return path


def partner_of(directory: Path, settings: Mapping[str, Any]) -> Path | None:
    """Return the directory beside this one whose settings differ by guidance only, that of the default name first."""
    return next((found for found in _beside(directory) if _are_partners(settings, _settings(found))), None)


def marking_of(recipe: Recipe) -> Marking:
    """Return what the recipe's protocol marks of clips, or else motion and onsets."""
    try:
        protocol = open_protocol(recipe.eval.protocol)
        return protocol.marking(recipe) if protocol.marking else MARKING
    except (DataError, PluginError, UsageError):  # samples can be seen though nothing measures them
        return MARKING


def _write(directory: Path, partner: Path | None, recipe: Recipe) -> Path | None:
    rows = [row for row in complete_rows(directory) if _can_be_shown(row)]
    if not rows:
        return None
    beside = {sample_key(row): _as_beside(row, partner, directory) for row in complete_rows(partner)} if partner else {}
    shown = [row | beside.get(sample_key(row), {}) for row in rows]
    title = f"{recipe.name}: {directory.name}"
    return write_gallery(directory, shown, title=title, recipe=recipe.name, marking=marking_of(recipe))


def _can_be_shown(row: Row) -> bool:
    """Return whether a sample is more than vectors; lines without files are of clips, or of vectors."""
    kinds = row.get("kinds")
    return set(kinds.values()) != {VECTOR} if kinds else str(row["path"]).endswith(".mp4")


def _as_beside(row: Row, partner: Path, directory: Path) -> Row:
    """Return what a line of the page says of its partner."""
    key = "beside_guided" if row.get("guided") else "independent"
    files = {m: os.path.relpath(partner / name, directory) for m, name in (row.get("files") or {}).items()}
    return {key: os.path.relpath(partner / row["path"], directory), f"{key}_files": files}


def _settings(directory: Path) -> Mapping[str, Any] | None:
    try:
        return read_settings(directory)
    except DataError:  # whatever that is, these samples are not beside it
        return None


def _are_partners(one: Mapping[str, Any], other: Mapping[str, Any] | None) -> bool:
    if other is None or bool(one.get("independent")) == bool(other.get("independent")):
        return False
    return is_control(one, other) if one.get("independent") else is_control(other, one)


def _beside(directory: Path) -> Iterator[Path]:
    """Yield directories of samples beside this one: those of the names that `mmdisco sample` gives, then any."""
    name, parent = directory.name, directory.parent
    yield from (parent / found for found in _usual(name))
    try:
        others = sorted(path for path in parent.iterdir() if path.is_dir() and path != directory)
    except OSError:
        return
    yield from others


def _usual(name: str) -> Sequence[str]:
    """Return the names of the directories of the other kind."""
    guided = "samples" if name == "independent" else name.removeprefix("independent-")
    return [guided] if guided != name else ["independent" if name == "samples" else f"independent-{name}"]


def _is_fresh(page: Path, sources: Sequence[Path]) -> bool:
    """Return whether the page is newer than its sources; writing 256 videos into one takes half a minute."""
    if not page.is_file():
        return False
    written = page.stat().st_mtime_ns
    return all(source.stat().st_mtime_ns < written for source in sources if source.is_file())
