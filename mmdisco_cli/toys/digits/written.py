"""Images of written digits in MNIST's idx format: a header of sizes, then bytes; gzip or plain."""

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mmdisco_cli.errors import DataError
from mmdisco_cli.toys.digits.parts import Places, part_of_image, places_of

SIDE = 28
_BYTES = 0x08
"""The idx code of unsigned bytes."""


@dataclass(frozen=True)
class Written:
    """Images as bytes (N, H, W), the digit of each (N,), and each one's position in its file (N,)."""

    images: Tensor
    digits: Tensor
    positions: Tensor

    @cached_property
    def fingerprint(self) -> str:
        """Name the exact images."""
        digest = hashlib.sha256()
        for tensor in (self.images, self.digits, self.positions):
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def places(self) -> Places:
        """Return the places of the images by part and digit."""
        pairs = zip(self.positions.tolist(), self.digits.tolist(), strict=True)
        return places_of((part_of_image(position), digit) for position, digit in pairs)


def open_written(folder: Path) -> Written:
    """Read all images of a folder whose labels lie beside them, in order of file name.

    Raises:
        DataError: no such folder, no pair of files in it, or files that are not idx or do not fit one another.
    """
    if not folder.is_dir():
        raise DataError(f"data.written: {folder}: no such folder")
    found = sorted(path for path in folder.rglob("*images*idx3*") if path.is_file() and path.name[0] != ".")
    pairs = [(path, _labels_of(path)) for path in found]
    pairs = [(images, labels) for k, (images, labels) in enumerate(pairs) if not _unpacked(images, pairs[:k])]
    if not pairs:
        raise DataError(f"data.written: {folder}: holds no images in idx format, as t10k-images-idx3-ubyte.gz")
    read = [_read_pair(*pair) for pair in pairs]
    images, digits = (torch.cat(parts) for parts in zip(*read, strict=True))
    return Written(images, digits, torch.cat([torch.arange(len(part)) for _, part in read]))


def drawn(images: Tensor, size: int, slant: float, invert: bool) -> Tensor:
    """Return bytes (B, H, W) as images (B, 1, size, size) in [-1, 1], slanted, inverted and centred on more ground."""
    x = images[:, None].float() / 255
    if slant:
        rows = torch.tensor([[1.0, slant, 0.0], [0.0, 1.0, 0.0]]).expand(len(x), 2, 3)
        x = F.grid_sample(x, F.affine_grid(rows, list(x.shape), align_corners=False), align_corners=False)
    before = (size - x.shape[-1]) // 2
    after = size - x.shape[-1] - before
    x = F.pad(x, (before, after, before, after))
    return 1 - 2 * x if invert else 2 * x - 1


def read_idx(path: Path) -> Tensor:
    """Return the bytes of an idx file in its own shape; raise DataError where it is none."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _BYTES or len(data) < 4 + 4 * data[3]:
        raise DataError(f"{path}: not an idx file of bytes")
    sizes = struct.unpack(f">{data[3]}I", data[4 : 4 + 4 * data[3]])
    values = data[4 + 4 * data[3] :]
    if len(values) != math.prod(sizes):
        raise DataError(f"{path}: holds {len(values)} bytes where its header says {'x'.join(map(str, sizes))}")
    return torch.frombuffer(bytearray(values), dtype=torch.uint8).reshape(sizes)


def _labels_of(images: Path) -> Path:
    """Return the file of labels beside a file of images, whichever of the two is packed."""
    plain = images.name.replace("images", "labels").replace("idx3", "idx1").removesuffix(".gz")
    both = (images.with_name(plain), images.with_name(f"{plain}.gz"))
    return next((path for path in both if path.is_file()), both[0])


def _unpacked(path: Path, before: Sequence[tuple[Path, Path]]) -> bool:
    """Return whether a file is the packed copy of one that is taken already."""
    return any(path.name == f"{images.name}.gz" and path.parent == images.parent for images, _ in before)


def _read_pair(images: Path, labels: Path) -> tuple[Tensor, Tensor]:
    if not labels.is_file():
        raise DataError(f"{images}: its labels {labels.name} are not beside it")
    pixels, digits = read_idx(images), read_idx(labels)
    if pixels.ndim != 3 or pixels.shape[1:] != (SIDE, SIDE) or digits.shape != pixels.shape[:1]:
        raise DataError(f"{images}: {tuple(pixels.shape)} images do not go with {tuple(digits.shape)} labels")
    if len(digits) and int(digits.max()) > 9:
        raise DataError(f"{labels}: holds {int(digits.max())}, which is not a digit")
    return pixels, digits
