"""Which files of a folder are kept from training."""

from collections.abc import Mapping
from pathlib import Path

HELD_OUT_FOLDERS = ("test", "heldout")


def held_out(digests: Mapping[str, str], root: Path, fraction: float) -> frozenset[str]:
    """Return the names held out: by folder, or by hash of the bytes: copies stay together and new files move none.

    A handful of files may fall all on one side: then the one nearest to the border changes it.
    """
    by_folder = [name for name in digests if name.split("/")[0] in HELD_OUT_FOLDERS]
    if by_folder and (root / "train").is_dir():
        return frozenset(by_folder)
    if not fraction or len(set(digests.values())) < 2:
        return frozenset()
    ranked = sorted(set(digests.values()))
    chosen = {digest for digest in ranked if int(digest[:8], 16) < fraction * 2**32}
    chosen = chosen or {ranked[0]}
    chosen = chosen if len(chosen) < len(ranked) else chosen - {ranked[-1]}
    return frozenset(name for name, digest in digests.items() if digest in chosen)
