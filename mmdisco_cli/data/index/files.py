"""Everything that lies below a folder, or in the zips there, by name."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from mmdisco_cli.data.naming import SUFFIXES
from mmdisco_cli.data.source import Source, ZipMember, open_source
from mmdisco_cli.errors import DataError

PLAIN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


@dataclass(frozen=True)
class Files:
    """The visible files below `root`, by their names relative to it, in order of name; those in zips after them."""

    root: Path
    sources: dict[str, Source]

    def ending(self, suffixes: Iterable[str] = SUFFIXES) -> list[str]:
        """Return the names that end so, in either case."""
        wanted = set(suffixes)
        found = [names for suffix, names in self._by_suffix.items() if suffix in wanted]
        return found[0] if len(found) == 1 else sorted(name for names in found for name in names)

    @cached_property
    def _by_suffix(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for name in self.sources:
            found.setdefault(suffix_of(name), []).append(name)
        return found

    def read(self, name: str) -> bytes:
        """Return a small file's bytes; raise DataError where they cannot be read."""
        return read_bytes(self.sources[name])


def suffix_of(name: str) -> str:
    """Return a name's suffix in small letters, with its dot."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - a hundred thousand of them


def read_bytes(source: Source) -> bytes:
    """Return all bytes of something small; raise DataError where they cannot be read."""
    try:
        with open_source(source) as file:
            return file.read()
    except OSError as error:
        raise DataError(f"{source}: {error.strerror}") from error


def list_files(root: Path) -> Files:
    """List a folder, leaving out what is hidden, without entering linked folders; raise DataError if there is none."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder or file")
    found = []
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if not name.startswith(".")]
        inner = os.path.relpath(folder, root)
        prefix = "" if inner == "." else f"{inner}/".replace(os.sep, "/")
        found += [prefix + name for name in names if not name.startswith(".")]
    return Files(root, {name: f"{root}/{name}" for name in sorted(found)})


def list_zips(files: Files) -> Files:
    """Return the files in the zips of a folder, as if each had been unpacked where it lies."""
    packed: dict[str, Source] = {}
    for name in files.ending((".zip",)):
        for member in zip_members(f"{files.root}/{name}"):
            place = (PurePosixPath(name).parent / member.member).as_posix()
            packed.setdefault(place, member)
    return Files(files.root, dict(sorted(packed.items())))


def zip_members(path: str) -> list[ZipMember]:
    """Return the visible files of a zip; raise DataError where it is damaged, encrypted or packed in rare ways."""
    try:
        with zipfile.ZipFile(path) as opened:
            infos = [info for info in opened.infolist() if not info.is_dir() and _is_visible(info.filename)]
    except (zipfile.BadZipFile, OSError, NotImplementedError) as error:
        raise DataError(f"{path}: not a whole zip ({error})") from error
    if odd := next((info for info in infos if info.compress_type not in PLAIN or info.flag_bits & 1), None):
        raise DataError(f"{path}: {odd.filename} is encrypted or packed in a way that only unpacking the zip can read")
    return [
        ZipMember(path, info.filename, info.header_offset, info.compress_size, info.compress_type != zipfile.ZIP_STORED)
        for info in infos
    ]


def _is_visible(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return not any(part.startswith(".") or part == "__MACOSX" for part in parts)
