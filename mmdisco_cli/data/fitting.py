"""Frames and images cropped about their centre and scaled, antialiased, to the size that is wanted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from av.filter import Graph
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from torch import Tensor
from torch.nn.functional import interpolate

from mmdisco_cli.data.frames import Decoded, Orientation, Pixels
from mmdisco_cli.data.probing import MediaInfo

EXACT = Interpolation.ACCURATE_RND | Interpolation.BITEXACT
"""The same pixels by every processor's code."""
USUAL = ("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p")
"""How names of formats begin in which up to two pixels along each edge share a colour."""
LEAST = 16
"""Pixels along an edge of a part that is scaled as it is stored: in fewer, what shares a colour would show."""
MOST = 64
"""Times that an edge may be scaled down in one pass: libswscale's filters end there."""


@dataclass(frozen=True)
class Box:
    """A part of a frame, in pixels."""

    top: int
    left: int
    height: int
    width: int

    def of(self, pixels: Tensor) -> Tensor:
        """Return this part of pixels (C, H, W)."""
        return pixels[:, self.top : self.top + self.height, self.left : self.left + self.width]

    def stored(self, rows: int, columns: int, turned: Orientation) -> Box:
        """Return where this part of a displayed frame lies in the stored one of `rows` and `columns`."""
        box = Box(self.left, self.top, self.width, self.height) if turned.swapped else self
        # Displayed rows are stored columns where they are swapped; either is reversed as it is displayed.
        down, across = turned.reverse_rows, turned.reverse_columns
        if turned.swapped:
            down, across = across, down
        top = rows - box.height - box.top if down else box.top
        left = columns - box.width - box.left if across else box.left
        return Box(top, left, box.height, box.width)


def centre_box(rows: int, columns: int, aspect: Fraction) -> Box:
    """Return the largest part about the centre whose width over height is `aspect`."""
    height = max(1, min(rows, round(columns / aspect)))
    width = max(1, min(columns, round(rows * aspect)))
    return Box((rows - height) // 2, (columns - width) // 2, height, width)


def fit_pixels(pixels: Tensor, aspect: Fraction, height: int, width: int) -> Tensor:
    """Crop pixels (C, H, W), uint8, about the centre to width over height `aspect`, and scale them, antialiased."""
    pixels = centre_box(pixels.shape[1], pixels.shape[2], aspect).of(pixels)
    rows, columns = pixels.shape[1:]
    if (rows, columns) == (height, width):
        return pixels
    if in_blocks(rows, columns, height, width):
        return interpolate(pixels[None].float(), (height, width), mode="area")[0].round().to(torch.uint8)
    return interpolate(pixels[None], (height, width), mode="bilinear", antialias=True)[0]


def in_blocks(rows: int, columns: int, height: int, width: int) -> bool:
    """Return whether a size becomes a smaller one by whole blocks of pixels.

    Their mean undoes a nearest-neighbour enlargement exactly, where a filter would blur.
    """
    return rows % height == 0 and columns % width == 0


class Fitted:
    """Frames of one stream, fitted to a size as they come."""

    def __init__(self, info: MediaInfo, count: int, height: int, width: int) -> None:
        # By colour: so are windows kept, and one that is all of these needs no copy.
        self._pixels = np.empty((3, count, height, width), np.uint8)
        self._fitter = Fitter(info.pixel_aspect, height, width)
        self._latest: Decoded | None = None
        self._count = 0

    @property
    def frames(self) -> Tensor:
        """Return all of them, uint8 (N, 3, height, width)."""
        return torch.from_numpy(self._pixels).transpose(0, 1)

    def add(self, frames: Iterable[Decoded]) -> None:
        """Take in the next ones; the same again costs a copy."""
        for decoded in frames:
            place = self._pixels[:, self._count]
            if decoded is self._latest:
                place[:] = self._pixels[:, self._count - 1]
            else:
                self._fitter.fit(decoded, place)
            self._latest, self._count = decoded, self._count + 1


class Fitter:
    """Fits the frames of one stream to a size: rotated, cropped about the centre, scaled, keeping their aspect.

    YUV is cropped, scaled and converted in one pass, which takes a tenth of the time that scaling RGB does.
    """

    def __init__(self, pixel_aspect: Fraction, height: int, width: int) -> None:
        self._pixel_aspect, self._size = pixel_aspect, (height, width)
        self._scaler = VideoReformatter()
        self._passes: dict[tuple[object, ...], _OnePass | None] = {}

    def fit(self, decoded: Decoded, pixels: Pixels) -> None:
        """Write a frame into `pixels` (3, height, width)."""
        frame, turned = decoded.frame, decoded.orientation
        kind = turned, frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range
        if kind not in self._passes:
            self._passes[kind] = self._one_pass(decoded, turned)
        if found := self._passes[kind]:
            found(frame, self._scaler, pixels)
            return
        height, width = self._size
        whole = torch.from_numpy(decoded.upright("rgb24")).permute(2, 0, 1)
        pixels[:] = fit_pixels(whole, self._aspect(turned), height, width).numpy()

    def _aspect(self, turned: Orientation) -> Fraction:
        """Return width over height of what is shown, in pixels as they are displayed."""
        height, width = self._size
        return Fraction(width, height) * (self._pixel_aspect if turned.swapped else 1 / self._pixel_aspect)

    def _one_pass(self, decoded: Decoded, turned: Orientation) -> _OnePass | None:
        """Return what fits frames of this kind as they are stored; None where that cannot be, or they have the size."""
        frame, (height, width) = decoded.frame, self._size
        rows, columns = (frame.width, frame.height) if turned.swapped else (frame.height, frame.width)
        box = centre_box(rows, columns, self._aspect(turned))
        usual = frame.format.name.startswith(USUAL) and (frame.width, frame.height) == decoded.size
        fits = box.height <= MOST * height and box.width <= MOST * width and min(box.height, box.width) >= LEAST
        if not usual or not fits or (box.height, box.width) == (height, width):
            return None
        return _OnePass(frame, box, turned, height, width)


class _OnePass:
    """Crops, scales and converts stored frames like the given one to what is displayed of a part of them."""

    def __init__(self, frame: VideoFrame, box: Box, turned: Orientation, height: int, width: int) -> None:
        blocks = in_blocks(box.height, box.width, height, width)
        self._method = (Interpolation.AREA if blocks else Interpolation.BILINEAR) | EXACT
        self._size, self._turned = (height, width) if turned.swapped else (width, height), turned
        part = box.stored(frame.height, frame.width, turned)
        # From whole colours on: half of one is half a sample too, which is none where samples have two bytes.
        crop = f"w={part.width}:h={part.height}:x={part.left & ~1}:y={part.top & ~1}:exact=1"
        self._graph = Graph()
        self._graph.threads = 1
        source = self._graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
        )
        # Colours lie in the middle of their pixels, as in frames that are not scaled.
        nodes = [source, self._graph.add("crop", crop), self._graph.add("setparams", "chroma_location=center")]
        self._graph.link_nodes(*nodes, self._graph.add("buffersink")).configure()

    def __call__(self, frame: VideoFrame, scaler: VideoReformatter, pixels: Pixels) -> None:
        self._graph.vpush(frame)
        width, height = self._size
        found = scaler.reformat(
            self._graph.vpull(), width, height, format="gbrp", interpolation=self._method, threads=1
        )
        # By plane: one array of all three would be copied once more.
        for plane, target in zip(found.planes, (pixels[1], pixels[2], pixels[0]), strict=True):
            rows = np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)[:, :width]
            target[:] = self._turned.apply(rows)
