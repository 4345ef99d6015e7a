"""Read the tensors of a TensorFlow checkpoint without TensorFlow: an index, which is a sorted table, and one data file.

A table is made of blocks of entries with shared beginnings of keys, its last 48 bytes say where the block of blocks is
(as in LevelDB); a value is a protocol buffer with type, shape, offset and checksum of a tensor.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from math import prod

import numpy as np
import numpy.typing as npt

INDEX, DATA = ".index", ".data-00000-of-00001"
"""What the names of the two files end in."""
MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER, TRAILER = 48, 5
FLOAT = 1
LANES = 1024
"""Stretches of data whose checksums are computed side by side."""
Fields = Mapping[int, list[int | bytes]]


def read_tensors(index: bytes, data: bytes) -> dict[str, npt.NDArray[np.float32]]:
    """Return all float32 tensors by name.

    Raises:
        ValueError: these are no such files, or they are damaged.
    """
    return {name: _tensor(name, fields, data) for name, fields in _described(index).items()}


def read_shapes(index: bytes) -> dict[str, list[int]]:
    """Return the shapes of all float32 tensors by name; raise ValueError for a damaged file."""
    return {name: _shape(fields) for name, fields in _described(index).items()}


def _described(index: bytes) -> dict[str, Fields]:
    if len(index) < FOOTER or index[-8:] != MAGIC:
        raise ValueError("no index of a TensorFlow checkpoint")
    try:
        entries = {key.decode(): _fields(value) for key, value in _entries(index) if key}
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError("a damaged index of a TensorFlow checkpoint") from error
    return {name: fields for name, fields in entries.items() if _number(fields, 1) == FLOAT}


def _shape(fields: Fields) -> list[int]:
    return [_number(_fields(dim), 1) for dim in _fields(_bytes(fields, 2)).get(2, []) if isinstance(dim, bytes)]


def _entries(index: bytes) -> Iterator[tuple[bytes, bytes]]:
    _, place = _handle(index, len(index) - FOOTER)
    (offset, size), _ = _handle(index, place)
    for _, handle in _block(index, offset, size):
        (offset, size), _ = _handle(handle, 0)
        yield from _block(index, offset, size)


def _block(index: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a block, whose end is a list of places and their number."""
    block = index[offset : offset + size]
    compressed, stored = index[offset + size], index[offset + size + 1 : offset + size + TRAILER]
    if compressed:
        raise ValueError("a compressed index, which TensorFlow does not write")
    if checksum(index[offset : offset + size + 1]) != int.from_bytes(stored, "little"):
        raise ValueError("a damaged index of a TensorFlow checkpoint")
    end = size - 4 - 4 * int.from_bytes(block[-4:], "little")
    place, key = 0, b""
    while place < end:
        shared, place = _varint(block, place)
        own, place = _varint(block, place)
        length, place = _varint(block, place)
        key = key[:shared] + block[place : place + own]
        place += own
        yield key, block[place : place + length]
        place += length


def _tensor(name: str, fields: Fields, data: bytes) -> npt.NDArray[np.float32]:
    shape = _shape(fields)
    offset, size = _number(fields, 4), _number(fields, 5)
    content = data[offset : offset + size]
    if _number(fields, 3) or len(content) != size or size != 4 * prod(shape):
        raise ValueError(f"{name}: not all of it is in the data file")
    if checksum(content) != _number(fields, 6):
        raise ValueError(f"{name}: damaged, its checksum is another")
    return np.frombuffer(content, "<f4").reshape(shape)


def _fields(message: bytes) -> Fields:
    """Return the fields of a protocol buffer by number: varints and fixed numbers as int, all else as bytes."""
    found: dict[int, list[int | bytes]] = {}
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        kind = tag & 7
        value: int | bytes
        if kind == 0:
            value, place = _varint(message, place)
        else:
            length = {1: 8, 5: 4}.get(kind)
            if length is None:
                length, place = _varint(message, place)
            value = message[place : place + length]
            value = value if kind == 2 else int.from_bytes(value, "little")
            place += length
        found.setdefault(tag >> 3, []).append(value)
    return found


def _number(fields: Fields, name: int) -> int:
    value = fields.get(name, [0])[0]
    return value if isinstance(value, int) else 0


def _bytes(fields: Fields, name: int) -> bytes:
    value = fields.get(name, [b""])[0]
    return value if isinstance(value, bytes) else b""


def _handle(content: bytes, place: int) -> tuple[tuple[int, int], int]:
    offset, place = _varint(content, place)
    size, place = _varint(content, place)
    return (offset, size), place


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place


def checksum(content: bytes) -> int:
    """Return the masked CRC-32C of bytes, as LevelDB keeps it."""
    crc = crc32c(content)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def crc32c(content: bytes) -> int:
    """Return the CRC-32 of bytes with Castagnoli's polynomial."""
    table = _table()
    each = len(content) // LANES
    crc = 0xFFFFFFFF
    if each:
        # A register is linear in what it has read: each stretch is read from zero, all of them at once, and the
        # register before it is moved over as many zeros.
        rows = np.frombuffer(content, np.uint8, LANES * each).reshape(LANES, each)
        lanes = np.zeros(LANES, np.uint32)
        for column in rows.T:
            lanes = table[(lanes ^ column) & 255] ^ (lanes >> 8)
        moved = [_after_zeros(1 << bit, each) for bit in range(32)]
        for lane in lanes.tolist():
            crc = _combined(crc, moved) ^ lane
    for byte in content[LANES * each :]:
        crc = int(table[(crc ^ byte) & 255]) ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _combined(register: int, moved: list[int]) -> int:
    found = 0
    for bit, value in enumerate(moved):
        if register >> bit & 1:
            found ^= value
    return found


def _after_zeros(register: int, count: int) -> int:
    table = _table()
    for _ in range(count):
        register = int(table[register & 255]) ^ (register >> 8)
    return register


@lru_cache(maxsize=1)
def _table() -> npt.NDArray[np.uint32]:
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, (values >> 1) ^ np.uint32(0x82F63B78), values >> 1)
    return values
