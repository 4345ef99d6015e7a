"""Frames are cropped, turned, scaled and converted to what exact arithmetic makes of their planes."""

from fractions import Fraction
from itertools import product
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from media_recorder import pulse
from torch.nn.functional import interpolate

from mmdisco_cli.data.fitting import Box, centre_box, fit_pixels
from mmdisco_cli.data.frames import Orientation
from mmdisco_cli.data.media import probe, read_frames, read_video, write_mp4

MATRICES = {1: (0.2126, 0.0722), 5: (0.299, 0.114)}
"""Weights of red and blue by the number of a matrix: BT.709, BT.601."""
FORMATS = {
    "yuv420p": (2, 2, 8),
    "yuv422p": (1, 2, 8),
    "yuv444p": (1, 1, 8),
    "yuv420p10le": (2, 2, 10),
}
"""Rows and columns that share a colour, and bits."""


def waves(height: int, width: int, phase: float, low: float, high: float) -> np.ndarray:
    """Smooth levels from `low` to `high`."""
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    return low + (high - low) * (0.5 + 0.5 * np.sin(5 * rows + 7 * columns + phase))


def planes(form: str, height: int, width: int, full: bool) -> list[np.ndarray]:
    """Luma and chroma of colours that stay within RGB, as 8-bit levels."""
    down, across, _ = FORMATS[form]
    small = -(-height // down), -(-width // across)
    luma = waves(height, width, 0.0, 90, 150) if full else waves(height, width, 0.0, 95, 140)
    return [luma, waves(*small, 1.0, 108, 148), waves(*small, 2.0, 108, 148)]


def as_rgb(found: list[np.ndarray], matrix: int, full: bool) -> torch.Tensor:
    """(1, 3, H, W), float64: what the standards make of levels, each colour that of all its pixels."""
    red, blue = MATRICES[matrix]
    height, width = found[0].shape
    chroma = [
        c.repeat(-(-height // c.shape[0]), 0).repeat(-(-width // c.shape[1]), 1)[:height, :width] for c in found[1:]
    ]
    y = found[0] / 255 if full else (found[0] - 16) / 219
    cb, cr = ((c - 128) / (255 if full else 224) for c in chroma)
    r, b = y + 2 * (1 - red) * cr, y + 2 * (1 - blue) * cb
    return torch.from_numpy(np.stack([r, (y - red * r - blue * b) / (1 - red - blue), b]))[None] * 255


def encoded(path: Path, form: str, found: list[np.ndarray], matrix: int, full: bool) -> Path:
    """Write ten lossless frames of these planes."""
    bits = FORMATS[form][2]
    height, width = found[0].shape
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, form
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, 2 if full else 1
        for index in range(10):
            frame = av.VideoFrame(width, height, form)
            for plane, levels in zip(frame.planes, found, strict=True):
                raw = np.round(levels * 2 ** (bits - 8)).astype(np.uint8 if bits == 8 else "<u2")
                rows = np.zeros((plane.height, plane.line_size), np.uint8)
                rows[:, : raw.shape[1] * raw.itemsize] = raw.view(np.uint8).reshape(raw.shape[0], -1)
                plane.update(rows.tobytes())
            frame.colorspace, frame.color_range = matrix, 2 if full else 1
            frame.pts, frame.time_base = index, Fraction(1, 10)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(("form", "matrix", "full"), list(product(FORMATS, MATRICES, (False, True))))
def test_frames_are_what_exact_arithmetic_makes_of_their_planes(
    tmp_path: Path, form: str, matrix: int, full: bool
) -> None:
    for (height, width), size in (((120, 214), (48, 64)), ((96, 128), (48, 48)), ((90, 62), (128, 128))):
        levels = planes(form, height, width, full)
        file = encoded(tmp_path / f"{height}.mkv", form, levels, matrix, full)
        exact = as_rgb(levels, matrix, full)
        part = centre_box(height, width, Fraction(size[1], size[0])).of(exact[0])[None]
        expected = interpolate(part, size, mode="bilinear", antialias=True)[0]
        found = read_frames(probe(file), [Fraction(0)], *size)[0].double()
        # A pixel of the source at most from where it belongs, where only pairs of them can be distinguished.
        assert float((found - expected).abs().mean()) < 1.5, (height, width)
        assert float((found - expected).abs().max()) < 8, (height, width)


def test_pixels_scaled_by_whole_numbers_come_back(tmp_path: Path) -> None:
    small = torch.rand(3, 24, 32, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8
    file = write_mp4(tmp_path / "art.mp4", small[:, None].expand(3, 6, 24, 32), None, 10, 16000, scale=4)
    for size in ((24, 32), (48, 64), (96, 128)):
        shown = read_video(file, 0, 1, 10, *size)[:, 0]
        wanted = small.repeat_interleave(size[0] // 24, 1).repeat_interleave(size[0] // 24, 2)
        # Between colours of the size of two pixels there are mixed ones, unless the size is that of the file.
        assert float((shown - wanted).square().mean().sqrt()) < (0.04 if size[0] == 48 else 0.02), size


@pytest.mark.parametrize(("rows", "columns"), [(37, 64), (64, 37), (40, 40), (33, 90)])
def test_a_part_is_found_in_the_stored_frame_however_that_is_turned(rows: int, columns: int) -> None:
    stored = np.arange(rows * columns).reshape(rows, columns)
    for swapped, down, across in product((False, True), repeat=3):
        turned = Orientation(swapped, down, across)
        shown = turned.apply(stored)
        part = centre_box(*shown.shape, Fraction(4, 3))
        there = part.stored(rows, columns, turned)
        cut = stored[there.top : there.top + there.height, there.left : there.left + there.width]
        assert np.array_equal(turned.apply(cut), part.of(torch.from_numpy(shown.copy())[None])[0].numpy()), turned
    assert Box(1, 2, 3, 4).stored(10, 10, Orientation()) == Box(1, 2, 3, 4)


def test_a_frame_of_the_right_size_is_only_converted(tmp_path: Path) -> None:
    noise = torch.rand(3, 4, 32, 48, generator=torch.Generator().manual_seed(1)) * 2 - 1
    file = write_mp4(tmp_path / "same.mp4", noise, torch.from_numpy(pulse(16000, 0.4, 0.2)), 10, 16000)
    with av.open(str(file)) as container:
        expected = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    found = read_frames(probe(file), [Fraction(k, 10) for k in range(4)], 32, 48)
    assert np.array_equal(found.permute(0, 2, 3, 1).numpy(), np.stack(expected))


def test_a_frame_shown_twice_is_the_same_twice(tmp_path: Path) -> None:
    levels = planes("yuv420p", 64, 64, False)
    file = encoded(tmp_path / "twice.mkv", "yuv420p", levels, 1, False)
    found = read_frames(probe(file), [Fraction(k, 40) for k in range(8)], 32, 32)
    assert found.shape == (8, 3, 32, 32)
    assert all(torch.equal(one, found[0]) for one in found)


@pytest.mark.parametrize("size", [(8, 300), (300, 8), (1, 1), (600, 4), (18, 10)])
def test_extreme_sizes_are_fitted_as_rgb_is(tmp_path: Path, size: tuple[int, int]) -> None:
    levels = planes("yuv420p", 34, 400, False)
    file = encoded(tmp_path / "extreme.mkv", "yuv420p", levels, 1, False)
    pixels = as_rgb(levels, 1, False)[0].round().to(torch.uint8)
    expected = fit_pixels(pixels, Fraction(size[1], size[0]), *size)
    found = read_frames(probe(file), [Fraction(0)], *size)[0]
    assert float((found.double() - expected.double()).abs().mean()) < 3
