"""Where the bytes of one medium lie: a file of its own, or a part of a tar, a zip or a Parquet table."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias, cast

from mmdisco_cli.errors import DataError

LOCAL_HEADER = struct.Struct("<26xHH")
"""Of a zip's member: the lengths of its name and of what else stands before its bytes."""
PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Stretch:
    """`size` bytes of a file from `offset` on, as a tar holds its members."""

    path: str
    member: str
    offset: int
    size: int

    def __fspath__(self) -> str:
        """Return what messages call it."""
        return f"{self.path}/{self.member}"

    __str__ = __fspath__

    def open(self) -> BinaryIO:
        """Return its bytes as a file that can be sought; nothing is read ahead."""
        return cast(BinaryIO, _Part(self.path, self.offset, self.size, str(self)))


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A member of a zip, `size` bytes there; `deflated` members are unpacked whole when they are opened."""

    path: str
    member: str
    header: int
    size: int
    deflated: bool

    def __fspath__(self) -> str:
        """Return what messages call it."""
        return f"{self.path}/{self.member}"

    __str__ = __fspath__

    def open(self) -> BinaryIO:
        """Return its bytes as a file that can be sought; raise DataError where they are damaged."""
        with open(self.path, "rb") as file:  # noqa: PTH123 - a name, not a Path, to keep rows small
            file.seek(self.header)
            head = file.read(LOCAL_HEADER.size)
            if len(head) < LOCAL_HEADER.size:
                raise DataError(f"{self}: the zip is cut off")
            offset = self.header + LOCAL_HEADER.size + sum(LOCAL_HEADER.unpack(head))
            if not self.deflated:
                return cast(BinaryIO, _Part(self.path, offset, self.size, str(self)))
            file.seek(offset)
            try:
                return Named(zlib.decompress(file.read(self.size), -15), str(self))
            except zlib.error as error:
                raise DataError(f"{self}: damaged in the zip ({error})") from error


@dataclass(frozen=True, slots=True)
class Cell:
    """Bytes in a Parquet table: `column` may be dotted, as in `video.bytes`; `row` counts from 0."""

    path: str
    column: str
    row: int

    def __fspath__(self) -> str:
        """Return what messages call it."""
        return f"{self.path}, row {self.row}, {self.column}"

    __str__ = __fspath__

    @property
    def member(self) -> str:
        """Return what sets it apart within its table."""
        return f"{self.column}:{self.row}"

    def open(self) -> BinaryIO:
        """Return its bytes as a file that can be sought; raise DataError where there are none."""
        from mmdisco_cli.data.index.cells import read_cell

        return Named(read_cell(self), str(self))


Packed: TypeAlias = Stretch | ZipMember | Cell
Source: TypeAlias = str | Packed
"""A path, or a part of a file that is opened by `open_source`."""


class Named(io.BytesIO):
    """Bytes in memory with a `name` for messages."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


class _Part(io.RawIOBase):
    """A stretch of a file as a file."""

    def __init__(self, path: str, offset: int, size: int, name: str) -> None:
        self._file = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self._offset, self._size, self._at, self.name = offset, size, 0, name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        count = max(0, min(len(buffer), self._size - self._at))
        read = os.preadv(self._file, [memoryview(buffer)[:count]], self._offset + self._at) if count else 0
        self._at += read
        return read

    def close(self) -> None:
        if not self.closed:
            os.close(self._file)
        super().close()


def open_source(source: Source) -> BinaryIO:
    """Return the bytes of a medium as a file that can be sought; raise OSError or DataError where there are none."""
    return open(source, "rb") if isinstance(source, str) else source.open()  # noqa: PTH123 - for the caller


def container_of(source: Source) -> str:
    """Return the file that a medium lies in."""
    return source if isinstance(source, str) else source.path


def key_of(source: Source) -> bytes:
    """Return what names a medium on this machine: its file's absolute path, and its place within."""
    path = os.fsencode(os.path.abspath(container_of(source)))  # noqa: PTH100 - a hundred thousand of them
    if isinstance(source, str):
        return path
    place = f"{source.member}:{source.offset}" if isinstance(source, Stretch) else source.member
    return path + b"\0" + os.fsencode(place)


def digest_of(source: Source) -> str:
    """Return the SHA-256 of a medium's bytes in hexadecimal; errors as for `open_source`."""
    found = hashlib.sha256()
    with open_source(source) as file:
        while piece := file.read(PIECE):
            found.update(piece)
    return found.hexdigest()
