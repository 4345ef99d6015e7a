"""What `--download` does for published files: fetch, check, convert, and link to where the recipe names them."""

import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import copyfile

from mmdisco_cli.conversion.reading import is_safetensors
from mmdisco_cli.conversion.run import convert_file
from mmdisco_cli.errors import DataError
from mmdisco_cli.fetching import drive, hub
from mmdisco_cli.fetching.checks import bytes_of, require_right
from mmdisco_cli.hookspecs import Published, Wanted
from mmdisco_cli.recipes.missing import fetchable_files
from mmdisco_cli.recipes.schema import Recipe
from mmdisco_cli.registry.plugins import load_registry
from mmdisco_cli.run import console
from mmdisco_cli.run.files import SHORT, cache_folder, make_directory, replacing
from mmdisco_cli.run.progress import progress
from mmdisco_cli.schema import at_home
from mmdisco_cli.weights_file import has_about

MEGABYTE = 10**6


def fetch_missing(recipe: Recipe, discriminator: bool = True) -> None:
    """Bring all published files that a recipe lacks to where it names them: as links into the user's cache.

    Raises:
        DataError: a line for each that cannot be had; or something is lacking that is not published, and then nothing
            was fetched.
    """
    failures = []
    for key, wanted in fetchable_files(recipe, discriminator).items():
        try:
            _link(_provided(wanted), Path(at_home(wanted.path)))
        except DataError as error:
            failures.append(f"{key}: {error}")
    if failures:
        raise DataError("\n".join(failures))


def converted_files() -> Path:
    """Return the folder of files that were fetched and converted."""
    return cache_folder() / "converted"


def _provided(wanted: Wanted) -> Path:
    """Return a published file converted, from the cache where it is there."""
    published, folder = wanted.published, converted_files()
    make_directory(folder)
    with _alone(folder / ".lock"):
        found = _known(published)
        if found is None:
            licence = f", {published.licence}" if published.licence else ""
            console.note(f"fetching {published.file} (about {published.size}{licence}) from {published.where}")
            found = _from_hub(wanted) if published.hub else _from_drive(wanted)
    return found


def _known(published: Published) -> Path | None:
    """Return the newest file in the cache that was made of a published one; of the right hash where that is known."""
    digest = published.sha256[:SHORT] or "[0-9a-f]" * SHORT
    found = converted_files().glob(f"{_source(published)}-{digest}.safetensors")
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def _source(published: Published) -> str:
    """Return the name of where a file comes from, and of the file, as part of a file's name."""
    where = published.hub or published.drive or published.drive_folder
    pinned = [published.revision] if published.hub and published.revision != "main" else []
    return re.sub(r"[^\w.+-]", "--", "--".join([where, *pinned, published.file.removesuffix(".pt")]))


def _from_hub(wanted: Wanted) -> Path:
    published = wanted.published
    source = hub.fetch_file(published.hub, published.file, published.revision)
    try:
        digest = require_right(source, published)
    except DataError:
        hub.forget(source)
        raise
    return _converted(source, wanted, digest)


def _from_drive(wanted: Wanted) -> Path:
    published = wanted.published
    source = cache_folder() / "fetching" / _source(published) / published.file
    with progress(f"{published.file} (MB)", max(bytes_of(published.size) // MEGABYTE, 1)) as advance:
        drive.fetch_file(
            source,
            drive=published.drive,
            folder=published.drive_folder,
            progress=lambda done: advance(done // MEGABYTE, {}),
        )
    try:
        return _converted(source, wanted, require_right(source, published))
    finally:
        drive.discard(source)


def _converted(source: Path, wanted: Wanted, digest: str) -> Path:
    target = converted_files() / f"{_source(wanted.published)}-{digest[:SHORT]}.safetensors"
    if is_safetensors(source) and has_about(source):  # ours already
        with replacing(target) as part:
            copyfile(source, part)
    else:
        convert_file(load_registry(), source, target, wanted.format)
    return target


def _link(file: Path, target: Path) -> None:
    make_directory(target.parent)
    with replacing(target) as part:
        part.symlink_to(file)
    console.note(f"{target}: a link to {file}")


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait while another process fetches: what it brings need not be fetched twice."""
    with lock.open("w") as file:
        with suppress(OSError):  # not every network file system has locks; without them work is only done twice
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
