"""The gallery of a run, each sample beside the independent one from the same noise if there is one; and its sheet."""

import os
from collections.abc import Sequence
from pathlib import Path

from mmdisco_cli.data.manifest import MANIFEST, Row, complete_rows, read_settings
from mmdisco_cli.diffusion.backbone import VECTOR
from mmdisco_cli.page.gallery import write_gallery
from mmdisco_cli.page.sheet import MOST, write_sheet
from mmdisco_cli.run import console
from mmdisco_cli.sampling.job import SampleJob
from mmdisco_cli.sampling.settings import is_control


def write_page(job: SampleJob, *, force: bool = True) -> Path | None:
    """Write index.html with all samples of a job's directory, of every shard and seed; None where they are all vectors.

    `force=False` keeps a page that is newer than its samples. After making a sample it must be forced: while another
    shard was writing the page, that sample may have been missing.
    """
    page = job.directory / "index.html"
    if not force and _is_fresh(page, [job.directory / MANIFEST, _control(job) / MANIFEST]):
        return page
    rows = [row for row in complete_rows(job.directory) if _can_be_shown(row)]
    if not rows:
        return None
    controls = _controls(job)
    shown = [row | controls.get(_number(row), {}) for row in rows]
    return write_gallery(job.directory, shown, title=f"{job.recipe.name}: {job.directory.name}", recipe=job.recipe.name)


def write_job_sheet(job: SampleJob) -> Path:
    """Write sheet.png with the samples that a job names, those of all its shards that are there; return its path."""
    seed, n = job.options.seed, job.options.n
    rows = [row for row in complete_rows(job.directory) if row["seed"] == seed and row["index"] < n]
    shown = [row for row in rows if row.get("kinds") and row.get("files")]
    count = f"{len(shown)} samples" if len(shown) <= MOST else f"the first {MOST} of {len(shown)} samples"
    path = write_sheet(job.directory, shown, job.directory / "sheet.png")
    console.note(f"{count} on {path}")
    return path


def _can_be_shown(row: Row) -> bool:
    """Return whether a sample is more than vectors; lines without files are of clips, or of vectors."""
    kinds = row.get("kinds")
    return set(kinds.values()) != {VECTOR} if kinds else str(row["path"]).endswith(".mp4")  # older lines


def _number(row: Row) -> tuple[int, int]:
    return int(row["index"]), int(row["seed"])


def _controls(job: SampleJob) -> dict[tuple[int, int], Row]:
    """Return, by index and seed, the files of the independent directory whose settings differ by guidance only."""
    beside = _control(job)
    settings = read_settings(beside)
    if job.options.independent or settings is None or not is_control(settings, job.settings):
        return {}
    return {_number(row): _beside(row, beside, job.directory) for row in complete_rows(beside)}


def _beside(row: Row, beside: Path, directory: Path) -> Row:
    files = {m: os.path.relpath(beside / name, directory) for m, name in (row.get("files") or {}).items()}
    return {"independent": os.path.relpath(beside / row["path"], directory), "independent_files": files}


def _control(job: SampleJob) -> Path:
    """Return the default directory of a job's independent samples."""
    name = job.directory.name
    return job.directory.parent / ("independent" if name == "samples" else f"independent-{name}")


def _is_fresh(page: Path, sources: Sequence[Path]) -> bool:
    """Return whether the page is newer than its sources; writing 256 videos into one takes half a minute."""
    if not page.is_file():
        return False
    written = page.stat().st_mtime_ns
    return all(source.stat().st_mtime_ns < written for source in sources if source.is_file())
