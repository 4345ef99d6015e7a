"""Files of the Hugging Face Hub, in its own cache, which HF_HOME moves; whole or not at all."""

import errno
import logging
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mmdisco_cli.errors import DataError
from mmdisco_cli.fetching.library import one_line, require
from mmdisco_cli.run.files import sha256_of

PACKAGE = "huggingface-hub"
_SHA256 = re.compile(r"[0-9a-f]{64}")


def fetch_file(repository: str, file: str, revision: str = "main") -> Path:
    """Return a file of a repository, downloaded where the cache lacks it, or its copy lies elsewhere in the repository.

    Raises:
        DataError: no such repository or file, a gated one, no connection, or a full disk; in one line.
    """
    hub, errors = require("huggingface_hub", PACKAGE), require("huggingface_hub.errors", PACKAGE)
    with hub_errors(repository):
        try:
            path = Path(hub.hf_hub_download(repository, file, revision=revision))
        except errors.RemoteEntryNotFoundError:
            # Repositories are tidied into folders; the name of a file stays.
            elsewhere = [n for n in hub.list_repo_files(repository, revision=revision) if n.endswith(f"/{file}")]
            if len(elsewhere) != 1:
                raise
            path = Path(hub.hf_hub_download(repository, elsewhere[0], revision=revision))
    require_hash(path, repository)
    return path


def fetch_folder(repository: str, revision: str, patterns: Sequence[str]) -> Path:
    """Return the folder of a repository's files that match the patterns, downloaded where the cache lacks them.

    Raises:
        DataError: as for `fetch_file`.
    """
    hub = require("huggingface_hub", PACKAGE)
    with hub_errors(repository):
        folder = Path(hub.snapshot_download(repository, revision=revision, allow_patterns=list(patterns)))
    for path in folder.rglob("*"):
        if path.is_file():
            require_hash(path, repository)
    return folder


def cached_folder(repository: str, revision: str, patterns: Sequence[str]) -> Path | None:
    """Return the folder of a repository in the cache that has all files of the patterns; nothing is downloaded."""
    hub, errors = require("huggingface_hub", PACKAGE), require("huggingface_hub.errors", PACKAGE)
    wanted = {"revision": revision, "allow_patterns": list(patterns), "local_files_only": True}
    try:
        return Path(hub.snapshot_download(repository, **wanted))
    except (errors.LocalEntryNotFoundError, errors.HFValidationError):
        return None


def cached_revision(repository: str) -> str:
    """Return the commit of a repository that the cache has, with whichever of its files; empty where it has none."""
    hub, errors = require("huggingface_hub", PACKAGE), require("huggingface_hub.errors", PACKAGE)
    try:
        return Path(hub.snapshot_download(repository, local_files_only=True)).name
    except errors.LocalEntryNotFoundError as error:  # also where only some of its files were wanted
        return Path(getattr(error, "snapshot_path", "")).name
    except errors.HFValidationError:
        return ""


def require_hash(path: Path, repository: str) -> None:
    """Compare a large file with the SHA-256 that the hub names it by; a damaged one is removed, with DataError."""
    content = path.resolve()
    if _SHA256.fullmatch(content.name) and sha256_of(content) != content.name:
        forget(path)
        raise DataError(f"{path.name} of {repository} has not the SHA-256 that the hub gives for it: not used")


def forget(path: Path) -> None:
    """Remove a file from the cache, so that it is fetched again."""
    path.resolve().unlink(missing_ok=True)
    path.unlink(missing_ok=True)


@contextmanager
def hub_errors(repository: str) -> Iterator[None]:
    """Raise DataError, with what can be done, in place of whatever the hub's library raises."""
    errors = require("huggingface_hub.errors", PACKAGE)
    # Its account of every attempt: what they came to is said below.
    logging.getLogger("huggingface_hub.utils._http").setLevel(logging.ERROR)
    page = f"https://huggingface.co/{repository}"
    try:
        yield
    except DataError:
        raise
    except errors.GatedRepoError as error:
        raise DataError(
            f"{repository} is gated: accept its licence at {page} and log in with `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise DataError(f"{repository} has no such revision ({page})") from error
    except errors.RepositoryNotFoundError as error:
        raise DataError(f"{repository} is not on the hub, or private: then log in with `hf auth login`") from error
    except errors.LocalEntryNotFoundError as error:
        raise DataError(_unreachable(repository)) from error
    except OSError as error:
        raise DataError(f"{repository} could not be fetched ({_of_system(error)})") from error
    except Exception as error:  # whatever else the network, the hub or its library come up with
        if "client has been closed" in str(error):  # huggingface_hub 1 tries again with what it has closed
            raise DataError(_unreachable(repository)) from error
        raise DataError(f"{repository} could not be fetched ({one_line(error)})") from error


def _unreachable(repository: str) -> str:
    return f"{repository} could not be reached: no connection to the hub, or HF_HUB_OFFLINE is set"


def _of_system(error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return f"{os.strerror(error.errno or 0)}: nothing of it is kept" if full else one_line(error)
