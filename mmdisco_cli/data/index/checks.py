"""What is looked at once windows are known: whether they can be decoded, and which of them are held out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from mmdisco_cli.data.index.folder import listed
from mmdisco_cli.data.index.holdout import held_out
from mmdisco_cli.data.index.losses import Count, Losses, called
from mmdisco_cli.data.index.memory import TIMELESS, Memory
from mmdisco_cli.data.index.rows import HELDOUT, Row
from mmdisco_cli.data.naming import UNUSABLE, file_errors
from mmdisco_cli.data.windows import ClipWindow, WindowStore

SEGMENT = 16  # windows decoded in one pass over a file
SILENT = 1e-4  # peak below which a file counts as silent (-80 dB)
STILL = 3  # 8-bit steps within which a frame counts as unmoving
Found = list[tuple[Row, list[ClipWindow]]]


def check_all(
    found: Found, store: WindowStore, memory: Memory, losses: Losses, count: Count
) -> tuple[Found, list[tuple[str, str]]]:
    """Decode all windows of each row that never were; return the rows that can be decoded, and remarks on them."""
    names = {_check_name(windows, store): windows for _, windows in found}
    known = memory.recall(dict.fromkeys(names, TIMELESS))
    kept, remarks = [], []
    for row, windows in found:
        name = _check_name(windows, store)
        try:
            with file_errors(windows[0].info.path):
                if name not in known:
                    known[name] = list(_check(windows, store))
                    memory.remember([(name, TIMELESS, known[name])])
            kept.append((row, windows))
            remarks += [(row.name, remark) for remark in (*stamp_remarks(windows), *known[name])]
        except UNUSABLE as error:
            losses.add(called(row), str(error).removeprefix(f"{windows[0].info.path}: "))
        count.add(1)
    return kept, remarks


def stamp_remarks(windows: Sequence[ClipWindow]) -> tuple[str, ...]:
    """Return remarks on the time stamps of a row's file."""
    return windows[0].info.remarks


def _check_name(windows: Sequence[ClipWindow], store: WindowStore) -> bytes:
    """Name what is decoded by its content, for the same windows of the same bytes come out the same."""
    starts = [str(window.start) for window in windows]
    return b"decoded:" + sha256(repr([windows[0].digest, starts, store.shape, store.modalities]).encode()).digest()


def _check(windows: Sequence[ClipWindow], store: WindowStore) -> Iterator[str]:
    """Decode all windows of a file; yield a remark where its audio is silent or its video unmoving."""
    loudest, widest = 0, 0
    for first in range(0, len(windows), SEGMENT):
        for stored in store.load(windows[first : first + SEGMENT]):
            if "audio" in stored:
                loudest = max(loudest, int(stored["audio"].int().abs().max()))
            if "video" in stored:
                video = stored["video"].int()
                widest = max(widest, int((video.amax(1) - video.amin(1)).max()))
    if "audio" in store.modalities and loudest < SILENT * 32767:
        yield "silent"
    if "video" in store.modalities and widest < STILL:
        yield "the video does not move"


def sided(found: Found, root: Path, holdout: float) -> tuple[list[ClipWindow], list[tuple[str, str]]]:
    """Return all windows, each marked as held out or not: as the rows say, or else by a hash of the bytes."""
    digests = {windows[0].digest.split("+")[0] for _, windows in found}
    if any(row.split == HELDOUT for row, _ in found):
        chosen = [row.split == HELDOUT for row, _ in found]
    else:
        held = held_out(digests, holdout)
        chosen = [windows[0].digest.split("+")[0] in held for _, windows in found]
    marked = [
        replace(window, heldout=True) if side else window
        for (_, windows), side in zip(found, chosen, strict=True)
        for window in windows
    ]
    sides = [{w.digest: w.name for w in marked if w.heldout == side} for side in (True, False)]
    if both := [name for digest, name in sides[0].items() if digest in sides[1]]:
        return marked, [(str(root), f"{len(both)} held-out clips are in training too ({listed(both)})")]
    return marked, []
