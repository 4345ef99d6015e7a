"""Which files of a folder are held out from training."""

from collections.abc import Mapping
from pathlib import Path

HELD_OUT_FOLDERS = ("test", "heldout")


def held_out(digests: Mapping[str, str], root: Path, fraction: float) -> frozenset[str]:
    """Return the names of the files held out: by folder, or by a hash of the bytes.

    By the hash, copies of a file stay on one side, and adding files changes the side of none. If all of a few files
    fall on one side, the one with the nearest hash changes sides.
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
