"""Where the real digits come from, and their one download where there are none."""

import tarfile
import urllib.request
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

from torchvision.datasets import MNIST

from mmdisco_cli.errors import DataError, UsageError
from mmdisco_cli.fetching import downloads_allowed
from mmdisco_cli.run import console
from mmdisco_cli.run.files import make_directory, replacing
from mmdisco_cli.tensors.files import first_line
from mmdisco_cli.toys.digits.options import DigitsOptions

SPOKEN_URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz"
CACHE = Path("~/.cache/mmdisco/digits")
SPOKEN = (
    "data.spoken: recordings DIGIT_SPEAKER_INDEX.wav, the folder `recordings` of the Free Spoken Digit Dataset "
    "(github.com/Jakobovski/free-spoken-digit-dataset, CC BY-SA 4.0, 20 MB)"
)
WRITTEN = (
    "data.written: images and labels in idx format, the files of MNIST (yann.lecun.com/exdb/mnist or torchvision, "
    "CC BY-SA 3.0, 11 MB)"
)
DOWNLOAD = "or let mmdisco fetch it: --download, or --set data.download=true"
Open = Callable[[str], IO[bytes]]


def find_spoken(options: DigitsOptions, open_url: Open | None = None) -> Path:
    """Return the folder of recordings that a recipe names, or the downloaded one.

    Raises:
        UsageError: neither is given; the error says what is missing, where it comes from and its licence.
        DataError: it cannot be downloaded.
    """
    if options.spoken is not None:
        return Path(options.spoken).expanduser()
    _require_download(options, SPOKEN)
    return fetch_spoken(CACHE.expanduser(), open_url or urllib.request.urlopen)


def find_written(options: DigitsOptions) -> Path:
    """Return the folder of images that a recipe names, or the downloaded one; errors as for `find_spoken`."""
    if options.written is not None:
        return Path(options.written).expanduser()
    _require_download(options, WRITTEN)
    return fetch_written(CACHE.expanduser())


def _require_download(options: DigitsOptions, what: str) -> None:
    if not options.download and not downloads_allowed():
        raise UsageError(f"{what}: name the folder with --set {what.partition(':')[0]}=DIR, {DOWNLOAD}")


def fetch_spoken(cache: Path, open_url: Open) -> Path:
    """Download the recordings into `cache`, unless they are there, and return their folder."""
    folder = cache / "recordings"
    if any(folder.glob("*.wav")):
        return folder
    console.note(f"downloading {SPOKEN_URL} (CC BY-SA 4.0)")
    make_directory(cache)
    archive = cache / "recordings.tar.gz"
    try:
        with open_url(SPOKEN_URL) as source, replacing(archive) as part, part.open("wb") as file:
            while block := source.read(1 << 20):
                file.write(block)
        _unpack(archive, folder)
    except (OSError, EOFError, tarfile.TarError) as error:
        raise DataError(f"{SPOKEN_URL}: cannot be fetched ({first_line(error)}); {SPOKEN}") from error
    finally:
        archive.unlink(missing_ok=True)
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    """Write the recordings of an archive into `folder`, which appears when all are there."""
    with TemporaryDirectory(dir=folder.parent, prefix=".recordings") as held:
        part = Path(held) / "recordings"
        part.mkdir()
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = Path(member.name)
                if member.isfile() and name.suffix == ".wav" and (content := tar.extractfile(member)) is not None:
                    (part / name.name).write_bytes(content.read())
        if not any(part.iterdir()):
            raise OSError("the archive holds no recordings")
        part.replace(folder)


def fetch_written(cache: Path) -> Path:
    """Download MNIST into `cache` by torchvision, unless it is there, and return the folder of its files."""
    for train in (False, True):
        try:
            MNIST(str(cache), train=train, download=True)
        except (RuntimeError, OSError) as error:
            raise DataError(f"MNIST: cannot be fetched ({first_line(error)}); {WRITTEN}") from error
    return cache / "MNIST" / "raw"
