"""Which media are held out from training where nothing names them."""

from collections.abc import Collection


def held_out(digests: Collection[str], fraction: float) -> frozenset[str]:
    """Return the digests held out, by hash of the bytes: copies stay together and new files move none.

    By the hash, copies of a file stay on one side, and adding files changes the side of none. If all of a few files
    fall on one side, the one with the nearest hash changes sides.
    """
    ranked = sorted(set(digests))
    if not fraction or len(ranked) < 2:
        return frozenset()
    chosen = {digest for digest in ranked if int(digest[:8], 16) < fraction * 2**32}
    chosen = chosen or {ranked[0]}
    return frozenset(chosen if len(chosen) < len(ranked) else chosen - {ranked[-1]})
