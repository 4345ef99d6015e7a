"""Whether a file is the one that its publisher means: by hash or size, or about by size where neither is known."""

import re
from pathlib import Path

from mmdisco_cli.errors import DataError
from mmdisco_cli.hookspecs import Published
from mmdisco_cli.run.files import sha256_of

_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def require_right(path: Path, published: Published) -> str:
    """Return the SHA-256 of a fetched file; raise DataError where it is another one than was published."""
    size, about = path.stat().st_size, bytes_of(published.size)
    if published.bytes and size != published.bytes:
        raise DataError(f"{published.file}: {size} bytes came, not {published.bytes}: not used")
    # Sites answer with a page of excuses where a file should be.
    if not published.bytes and about and not about / 2 < size < about * 2:
        raise DataError(f"{published.file}: {size} bytes came, not about {published.size}: not used")
    digest = sha256_of(path)
    if published.sha256 and digest != published.sha256:
        raise DataError(f"{published.file}: its SHA-256 is {digest}, not {published.sha256}: not used")
    return digest


def bytes_of(size: str) -> int:
    """Return the number of bytes of a size in words such as 1.24 GB, 0 for other words."""
    found = re.fullmatch(r"([0-9.]+) (B|kB|MB|GB|TB)", size)
    return round(float(found[1]) * _UNITS[found[2]]) if found else 0
