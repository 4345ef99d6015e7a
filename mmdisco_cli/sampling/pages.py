"""The gallery of a run: its films, each beside the independent sample of the same noise where there is one."""

import os
from pathlib import Path

from mmdisco_cli.sampling.gallery import write_gallery
from mmdisco_cli.sampling.job import Job
from mmdisco_cli.sampling.manifest import complete_rows, read_settings
from mmdisco_cli.sampling.settings import is_control


def write_page(job: Job) -> Path | None:
    """Write index.html over all films of a job's directory, of every shard and seed; None where there are none."""
    rows = [row for row in complete_rows(job.directory) if str(row["path"]).endswith(".mp4")]
    if not rows:
        return None
    controls = _controls(job)
    shown = [row | ({"independent": controls[row["path"]]} if row["path"] in controls else {}) for row in rows]
    return write_gallery(job.directory, shown, title=f"{job.recipe.name}: {job.directory.name}", recipe=job.recipe.name)


def _controls(job: Job) -> dict[str, str]:
    """Return, by name, the films of the neighbouring directory that differ from this one's by guidance alone."""
    beside = job.directory.parent / control_folder(job.directory.name)
    settings = read_settings(beside)
    if job.options.independent or settings is None or not is_control(settings, job.settings):
        return {}
    return {row["path"]: os.path.relpath(beside / row["path"], job.directory) for row in complete_rows(beside)}


def control_folder(name: str) -> str:
    """Return the default name of the independent counterpart of a directory of samples."""
    return "independent" if name == "samples" else f"independent-{name}"
