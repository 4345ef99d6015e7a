"""Keep what was measured of a clip under the hash of its bytes, so that nothing is ever measured twice."""

import lzma
import os
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mmdisco_cli.errors import DataError
from mmdisco_cli.run.files import replacing

DEFAULT = Path("runs") / "cache"
Arrays = dict[str, npt.NDArray[Any]]
UNREADABLE = (
    OSError, ValueError, TypeError, KeyError, AttributeError, EOFError, MemoryError, OverflowError, RuntimeError,
    SyntaxError, struct.error, zipfile.BadZipFile, zlib.error, lzma.LZMAError, tokenize.TokenError,
)  # fmt: skip
"""What NumPy, the zip archive and its codecs raise at damaged bytes."""


@dataclass(frozen=True)
class Cache:
    """A folder of .npz files named by content and by what was measured; None keeps nothing."""

    folder: Path | None = DEFAULT

    def get(self, digest: str, name: str) -> Arrays | None:
        """Return what was kept of a content under a name; a file that cannot be read was never there."""
        if self.folder is None:
            return None
        try:
            with self._path(digest, name).open("rb") as stream:
                return dict(np.load(stream, allow_pickle=False))
        except UNREADABLE:
            return None

    def put(self, digest: str, name: str, arrays: Arrays) -> None:
        """Keep arrays, whole or not at all; raise DataError where that cannot be written."""
        if self.folder is None:
            return
        path = self._path(digest, name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part, part.open("wb") as stream:
                kept: dict[str, Any] = dict(arrays)
                np.savez(stream, **kept)  # NumPy before 2.1 would keep an `allow_pickle` as one more array
        except OSError as error:
            raise DataError(f"--cache {self.folder}: cannot write ({error.strerror})") from error
        except DataError as error:
            raise DataError(f"--cache {self.folder}: {error}") from error

    def _path(self, digest: str, name: str) -> Path:
        safe = name.replace(os.sep, "-").replace(":", "-")
        return (self.folder or Path()) / digest[:2] / f"{digest[:32]}-{safe}.npz"
