"""WebDataset: members of a tar that share their name up to the first dot are one clip with its texts."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mmdisco_cli.data.index.extra import require
from mmdisco_cli.data.index.files import suffix_of
from mmdisco_cli.data.index.folder import texts_of_json
from mmdisco_cli.data.index.memory import Memory, stamp_of
from mmdisco_cli.data.index.records import with_side
from mmdisco_cli.data.index.rows import Fields, Index, Row, side_of_name, side_of_path
from mmdisco_cli.data.index.tables import decode
from mmdisco_cli.data.naming import SOUND_SUFFIXES, SUFFIXES
from mmdisco_cli.data.source import Stretch
from mmdisco_cli.errors import DataError

TEXTS = (".txt", ".json", ".cls")
LARGEST_TEXT = 1 << 20
PADDING = 1 << 17
"""Bytes of zeros that may end a tar; more of them, or others, are no end."""


@dataclass(frozen=True)
class Member:
    """A file in a tar: its bytes, or of a small text what it says."""

    name: str
    offset: int
    size: int
    text: str | None = None


@dataclass
class Shard:
    """A tar's members, and what is wrong with it; `lost` where it is cut off, `last` what comes before that."""

    members: list[Member] = field(default_factory=list)
    lost: str = ""
    remark: str = ""


def read_shards(paths: Sequence[Path], chosen: Mapping[str, str], memory: Memory, root: Path | None) -> Index:
    """Return the clips of some tars; names in the index begin with the tar's, relative to `root` or without folders.

    Raises:
        DataError: a tar cannot be read at all.
    """
    index = Index("WebDataset tars")
    for path in paths:
        label = path.relative_to(root).as_posix() if root else path.name
        shard = list_shard(str(path), memory)
        one = Index(index.layout)
        for key, members in _grouped(shard.members).items():
            _add_sample(one, str(path), f"{label}/{key}", members, chosen)
        if shard.lost:
            one.bad.append((label, shard.lost))
        if shard.remark:
            one.notes.append((label, shard.remark))
        folders = path.relative_to(root).parts[:-1] if root else ()
        index.extend(with_side(one, side_of_name(path.name) or side_of_path(folders)))
    return index


def list_shard(path: str, memory: Memory) -> Shard:
    """Return a tar's members, from memory or else by reading their headers; raise DataError where it is not a tar."""
    try:
        stamp, name = stamp_of(path), os.fsencode(os.path.abspath(path)) + b"\0members"  # noqa: PTH100
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    known = memory.recall({name: stamp}).get(name)
    if known is not None:
        return Shard([Member(*member) for member in known["members"]], known["lost"], known["remark"])
    shard = _walk(path, stamp.size)
    memory.remember([(name, stamp, {**asdict(shard), "members": [list(asdict(m).values()) for m in shard.members]})])
    return shard


def _walk(path: str, size: int) -> Shard:
    """Read a tar's headers, passing over what lies between them."""
    shard = Shard()
    try:
        with tarfile.open(path, "r:") as opened:
            while (info := opened.next()) is not None:
                opened.members = []  # type: ignore[attr-defined] # it would keep them all
                if info.offset_data + info.size > size:
                    shard.lost = f"is cut off in the middle of {info.name}: what follows is lost"
                    return shard
                if info.isreg() and not info.issparse() and not os.path.basename(info.name).startswith("."):  # noqa: PTH119
                    shard.members.append(_member(opened, info))
            _check_end(path, opened.offset, size, shard)
    except (tarfile.TarError, OSError, EOFError) as error:
        if not shard.members:
            kind = "is empty" if size == 0 else f"no tar, or one that is packed ({error})"
            raise DataError(f"{path}: {kind}") from error
        shard.lost = f"is damaged after {shard.members[-1].name}: what follows is lost ({error})"
    return shard


def _check_end(path: str, end: int, size: int, shard: Shard) -> None:
    """Look at what stands where no more members are found, for a damaged header ends a tar in silence."""
    last = shard.members[-1].name if shard.members else "its beginning"
    with open(path, "rb") as file:  # noqa: PTH123
        file.seek(end)
        rest = file.read(PADDING)
    if not rest:
        shard.remark = f"has no end mark: it may be cut off after {last}"
    elif any(rest) or size > end + PADDING:
        shard.lost = f"is damaged after {last}: what follows is lost"


def _member(opened: tarfile.TarFile, info: tarfile.TarInfo) -> Member:
    text = None
    if suffix_of(info.name) in TEXTS and info.size <= LARGEST_TEXT and (file := opened.extractfile(info)):
        text = decode(file.read(), info.name)[0]
    return Member(info.name, info.offset_data, info.size, text)


def _grouped(members: Iterable[Member]) -> dict[str, dict[str, Member]]:
    """Return members by what they share and by suffix, in the order of the tar."""
    base_plus_ext = require("webdataset.tariterators").base_plus_ext
    found: dict[str, dict[str, Member]] = {}
    for member in members:
        key, suffixes = base_plus_ext(member.name)
        if key is not None:
            found.setdefault(key, {}).setdefault(suffix_of(f"x.{suffixes}"), member)
    return found


def _add_sample(index: Index, path: str, name: str, members: Mapping[str, Member], chosen: Mapping[str, str]) -> None:
    media = {suffix: member for suffix, member in members.items() if suffix in SUFFIXES}
    video = next((member for suffix, member in media.items() if suffix not in SOUND_SUFFIXES), None)
    audio = next((member for suffix, member in media.items() if suffix in SOUND_SUFFIXES), None)
    if video is None and audio is None:
        index.bad.append((name, f"has {' and '.join(sorted(members))}, but no media"))
        return
    first = video or audio
    assert first is not None
    sources: Fields = {
        "video": Stretch(path, video.name, video.offset, video.size) if video else None,
        "audio": Stretch(path, audio.name, audio.offset, audio.size) if audio else None,
    }
    called = name + suffix_of(first.name)
    index.rows += [Row(called, **sources, **found) for found in _texts(members, chosen, index, name)]


def _texts(members: Mapping[str, Member], chosen: Mapping[str, str], index: Index, name: str) -> list[Fields]:
    record: Any = {}
    if (member := members.get(".json")) is not None:
        try:
            record = json.loads(member.text or "")
        except ValueError as error:
            index.notes.append((name, f"its .json is not JSON ({error})"))
    texts = texts_of_json(record, chosen, name) or [{}]
    plain = members[".txt"].text if ".txt" in members else ""
    rest = {"caption": " ".join((plain or "").split())} if plain and "caption" not in chosen else {}
    if ".cls" in members:
        rest["label"] = (members[".cls"].text or "").strip()
    return [{**found, **rest} for found in texts]
