"""Files of Google Drive, by gdown; what a broken connection left is taken up again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmdisco_cli.errors import DataError
from mmdisco_cli.fetching.library import one_line, require
from mmdisco_cli.run.files import make_directory

PACKAGE = "gdown"
TIMEOUT, RETRIES = 30, 3
"""Seconds without any bytes that end a connection, and how often another is tried."""
_NETWORK = {
    "ConnectionError": "no connection",
    "ConnectTimeout": "no connection",
    "ReadTimeout": "no answer",
    "ChunkedEncodingError": "the connection broke",
}
Progress = Callable[[int], None]


def fetch_file(target: Path, *, drive: str, folder: str, progress: Progress) -> None:
    """Download a file of Drive to `target`: by its id, or by its name in the folder of that id.

    Raises:
        DataError: no such file, no connection, too many downloads of it, or a full disk; in one line.
    """
    gdown = require("gdown", PACKAGE)
    make_directory(target.parent)
    try:
        gdown.download(
            id=drive or _looked_up(gdown, folder, target.name),
            output=str(target),
            quiet=True,
            use_cookies=False,
            resume=True,
            timeout=TIMEOUT,
            retries=RETRIES,
            progress=lambda done, _: progress(done),
        )
    except DataError:
        raise
    except Exception as error:  # whatever the network, Google's pages or gdown come up with
        if isinstance(error, OSError) and error.errno is not None:
            discard(target)  # a full disk is not made less so by half a file
        raise DataError(f"{target.name} could not be fetched from Google Drive ({_reason(error)})") from error


def discard(target: Path) -> None:
    """Remove a file and what is there of it in part."""
    for path in (target, *target.parent.glob(f"{target.name}*.part")):
        path.unlink(missing_ok=True)


def _looked_up(gdown: Any, folder: str, name: str) -> str:
    listed = gdown.download_folder(id=folder, quiet=True, use_cookies=False, skip_download=True, timeout=TIMEOUT)
    ids = [entry.id for entry in listed if Path(entry.path).name == name]
    if not ids:
        raise DataError(f"https://drive.google.com/drive/folders/{folder}: there is no {name} in it")
    return str(ids[0])


def _reason(error: Exception) -> str:
    kinds = [type(one).__name__ for one in (error, error.__cause__)]
    if known := next((_NETWORK[kind] for kind in kinds if kind in _NETWORK), None):
        return known
    # A refusal comes as two nested errors, of which the inner one is the shorter.
    inner = error.__context__ if type(error.__context__) is type(error) else None
    return getattr(error, "strerror", None) or one_line(inner or error)
