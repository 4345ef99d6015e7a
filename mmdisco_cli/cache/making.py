"""Make the shards of a cache: processes share them out, and a kill loses at most the one in the making."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mmdisco_cli.cache.content import Content
from mmdisco_cli.cache.layout import MANIFEST, Clips, Texts, rows_a_chunk
from mmdisco_cli.cache.manifest import Manifest, claim, manifest_of, read_manifest
from mmdisco_cli.cache.mapped import read_shard
from mmdisco_cli.cache.texts import encoded
from mmdisco_cli.cache.workers import Read, Reader, reading, worth_starting
from mmdisco_cli.data.index.losses import MOST, reasons
from mmdisco_cli.diffusion.backbone import State
from mmdisco_cli.errors import DataError
from mmdisco_cli.run.files import write_json
from mmdisco_cli.weights_file import write_tensors

Report = Callable[[int, int], None]
ABOUT = "clips"
"""The one entry of a shard's metadata, whose order with others would not be the same in two files."""


def make_shards(
    folder: Path, content: Content, share: tuple[int, int] = (0, 1), workers: int = 0, report: Report | None = None
) -> None:
    """Make the missing shards of a cache; `share` is (number, of how many): a process makes every how-many-th shard.

    `report` is called with how many texts and clips of the share are there and their total, and may raise to stop.

    Raises:
        DataError: the folder holds another cache, a shard cannot be written, a worker was killed, or more clips than
            `max_bad` allows cannot be read.
    """
    claim(folder, content.key)
    mine = content.shards()[share[0] :: share[1]]
    missing = [shard for shard in mine if not shard.path(folder).exists()]
    count = _Count(sum(map(_size, mine)), sum(_size(s) for s in mine if s not in missing), report)
    for shard in missing:
        if isinstance(shard, Texts):
            _write_texts(folder, content, shard)
            count.add(_size(shard))
    _make_clips(folder, content, [shard for shard in missing if isinstance(shard, Clips)], workers, count)


def is_complete(folder: Path, content: Content) -> bool:
    """Return whether a cache of this content is there, of as many clips or more, with all its shards."""
    known = read_manifest(folder)
    if known is None or known.key != content.key:
        return False
    holds = all(name in known.parts and known.parts[name].clips >= part.count for name, part in content.parts.items())
    return holds and set(content.texts) <= set(known.texts) and all(s.path(folder).exists() for s in known.shards())


def left_to_make(folder: Path, content: Content) -> tuple[int, int]:
    """Return how many shards are not there yet, and of how many."""
    shards = content.shards()
    return sum(not shard.path(folder).exists() for shard in shards), len(shards)


def complete(folder: Path, content: Content) -> Manifest:
    """Write down what a cache holds whose shards are all there.

    Raises:
        DataError: a shard is damaged, or more clips than `max_bad` allows could not be read.
    """
    lost: dict[str, list[tuple[int, str]]] = {name: [] for name in content.parts}
    for shard in content.shards():
        about = read_shard(shard.path(folder)).about
        if isinstance(shard, Clips):
            lost[shard.part] += [(int(row), str(reason)) for row, reason in json.loads(about[ABOUT])["lost"]]
    for name, part in content.parts.items():
        _refuse(lost[name], part.count, part.max_bad)
    found = manifest_of(content, lost)
    write_json(folder / MANIFEST, found.as_json())
    return found


def skipped_lines(manifest: Manifest) -> list[str]:
    """Return a line for each clip that could not be read, of the first MOST, and one that counts the others."""
    lost = [why for part in manifest.parts.values() for _, why in part.lost]
    more = [f"skipped {len(lost) - MOST} more"] if len(lost) > MOST else []
    return [f"skipped {why}" for why in lost[:MOST]] + more


@dataclass
class _Count:
    total: int
    done: int
    report: Report | None

    def add(self, more: int) -> None:
        self.done += more
        if self.report:
            self.report(self.done, self.total)


@dataclass
class _Shard:
    """A shard of clips in the making."""

    latents: list[State] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    lost: list[tuple[int, str]] = field(default_factory=list)


def _size(shard: Clips | Texts) -> int:
    return len(shard.rows if isinstance(shard, Clips) else shard.texts)


def _write_texts(folder: Path, content: Content, shard: Texts) -> None:
    if content.encode_text is None:
        raise ValueError("texts without a model that reads them")
    with torch.no_grad():
        tensors = encoded(shard.texts, content.encode_text)
    write_tensors(shard.path(folder), tensors)


def _make_clips(folder: Path, content: Content, shards: Sequence[Clips], workers: int, count: _Count) -> None:
    shapes = {m: plan.media_shape for m, plan in content.plans.items()}
    size = rows_a_chunk(shapes)
    chunks = [(shard.part, chunk) for shard in shards for chunk in shard.chunks(size)]
    reader = Reader({name: part.dataset for name, part in content.parts.items()}, shapes)
    lost: dict[str, list[tuple[int, str]]] = {name: [] for name in content.parts}
    rows = sum(len(shard.rows) for shard in shards)
    with reading(reader, chunks, min(worth_starting(reader, rows, workers), len(chunks))) as read:
        for shard in shards:
            made, part = _Shard(), content.parts[shard.part]
            for chunk in shard.chunks(size):
                _add(made, next(read), content)
                if chunk.stop == shard.rows.stop:
                    lost[shard.part] += made.lost
                    _refuse(lost[shard.part], part.count, part.max_bad)
                    _write_clips(shard.path(folder), made, content.shapes)
                count.add(len(chunk))


def _add(made: _Shard, read: Read, content: Content) -> None:
    """Encode what was read; a clip whose latents overflow half precision is left out like one that cannot be read."""
    made.lost += read.lost
    if not read.rows:
        return
    latents = {m: x.half() for m, x in content.encode(read.media).items()}
    whole = torch.stack([x.flatten(1).isfinite().all(1) for x in latents.values()]).all(0)
    made.lost += [
        (row, f"clip {row}: its latents are not finite") for row, ok in zip(read.rows, whole, strict=True) if not ok
    ]
    made.rows += [row for row, ok in zip(read.rows, whole, strict=True) if ok]
    made.latents.append({m: x[whole] for m, x in latents.items()})


def _write_clips(path: Path, made: _Shard, shapes: Mapping[str, tuple[int, ...]]) -> None:
    tensors: dict[str, Tensor] = {
        m: torch.cat([part[m] for part in made.latents] or [torch.empty(0, *shape, dtype=torch.float16)])
        for m, shape in shapes.items()
    }
    write_tensors(path, tensors, {ABOUT: json.dumps({"rows": made.rows, "lost": made.lost})})


def _refuse(lost: Sequence[tuple[int, str]], total: int, max_bad: float) -> None:
    if len(lost) > max_bad * total:
        said = reasons([_named(why) for _, why in lost], total)
        raise DataError(
            f"{len(lost)} of {total} clips cannot be read, more than data.max_bad={max_bad:g} allows ({said}); the "
            "shards that are whole are kept"
        )


def _named(why: str) -> tuple[str, str]:
    """Return what a clip is called and what is wrong with it, as an error says both."""
    name, colon, reason = why.partition(": ")
    return (name, reason) if colon else ("a clip", why)
