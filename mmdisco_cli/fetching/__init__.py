"""Files of others brought here, by the publishers' own libraries, and only after `--download`."""

import os

DOWNLOAD = "MMDISCO_DOWNLOAD"
"""Environment variable that `--download` sets to 1, for plugins and for child processes."""


def downloads_allowed() -> bool:
    """Return whether what is missing may be downloaded."""
    return os.environ.get(DOWNLOAD) == "1"
