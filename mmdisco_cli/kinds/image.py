"""Images as .png: 8 bits, grey or RGB, of [-1, 1]."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from mmdisco_cli.data.fitting import centre_box, fit_pixels
from mmdisco_cli.data.naming import file_errors
from mmdisco_cli.diffusion.backbone import ModalityPlan
from mmdisco_cli.errors import DataError
from mmdisco_cli.kinds.contract import Item, Media
from mmdisco_cli.kinds.thumbnails import image_thumbnail

MODES = {1: "L", 3: "RGB"}
DEEPEST = 65535
"""Of images of 16 bits."""


class ImageKind:
    """Images (1 or 3, H, W)."""

    def misfit(self, plan: ModalityPlan) -> str:
        """Return why media of this plan are not images."""
        right = len(plan.media_shape) == 3 and plan.media_shape[0] in MODES
        return "" if right else f"media of shape {plan.media_shape} are not (1 or 3, H, W)"

    def write(self, path: Path, media: Media, item: Item) -> None:
        """Write a .png, every pixel `item.scale` times along each edge, with `item.about` as JSON in its comment."""
        pixels = _as_bytes(media)
        large = pixels.repeat_interleave(item.scale, 0).repeat_interleave(item.scale, 1)
        words = PngInfo()
        if "title" in item.about:
            words.add_itxt("Title", item.about["title"])
        words.add_itxt("Comment", json.dumps(dict(item.about), ensure_ascii=False, sort_keys=True))
        Image.fromarray(large.squeeze(2).numpy()).save(path, format="png", pnginfo=words)

    def read(self, path: Path, item: Item) -> Tensor:
        """Return the image of any file that Pillow reads, upright, cropped about its centre and scaled to the plan."""
        channels, height, width = item.plan.media_shape
        with _opened(path) as image:
            pixels = np.asarray(_converted(image, MODES[channels]))
        planes = torch.from_numpy(pixels.copy()).reshape(*pixels.shape[:2], -1).permute(2, 0, 1)
        return fit_pixels(planes, Fraction(width, height), height, width).float().div(127.5).sub(1)

    def change(self, path: Path, item: Item) -> str:
        """Say how a file's size and colours differ from those of the plan."""
        channels, height, width = item.plan.media_shape
        with _opened(path) as image:
            size, grey = _upright_size(image), image.mode in ("1", "L", "LA") or image.mode.startswith("I;16")
            clear, count = image.has_transparency_data, getattr(image, "n_frames", 1)
        clauses = [f"the first of {count} images"] if count > 1 else []
        clauses += [_resized(size, width, height)] if size != (width, height) else []
        if grey != (channels == 1):
            clauses.append("made grey" if channels == 1 else "grey made RGB")
        clauses += ["what is transparent made white"] if clear else []
        return ", ".join(clauses)

    def card(self, path: Path, source: str) -> str:
        """Return the image; pixels stay square."""
        return f'<img class="image" alt="image" src="{source}">'

    def thumbnail(self, path: Path, width: int) -> Tensor:
        """Return the image, enlarged where it is small, uint8 (3, H, width)."""
        with file_errors(path):
            return image_thumbnail(path, width)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image for a block; raise DataError, naming the file, where it is none whose pixels are known."""
    with file_errors(path):
        try:
            image = Image.open(path)
        except UnidentifiedImageError as error:
            raise DataError(f"{path}: no image of a known format") from error
        with image:
            if image.mode == "F":
                raise DataError(f"{path}: pixels are floating-point numbers, of which no range is known")
            yield image


def _resized(size: tuple[int, int], width: int, height: int) -> str:
    """Say how an image of (width, height) gets the size of the plan."""
    box = centre_box(size[1], size[0], Fraction(width, height))
    cropped = f"cropped to {box.width} x {box.height} and " if (box.width, box.height) != size else ""
    resized = f"resized to {width} x {height}" if (box.width, box.height) != (width, height) else ""
    return f"{size[0]} x {size[1]} pixels {cropped}{resized}".removesuffix(" and ")


def _as_bytes(media: Media) -> Tensor:
    """Return an image in [-1, 1] as bytes (H, W, C)."""
    if isinstance(media, str) or media.ndim != 3 or media.shape[0] not in MODES:
        raise DataError(f"an image to write must be (1 or 3, H, W), not {getattr(media, 'shape', media)}")
    return media.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)


def _converted(image: Image.Image, mode: str) -> Image.Image:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):  # 16 bits, which Pillow would cut off at 255
        values = np.asarray(upright).astype(np.float64) / DEEPEST * 255
        upright = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    if upright.has_transparency_data:
        clear = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
    return upright.convert(mode)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    turned = image.getexif().get(0x0112, 1) >= 5  # EXIF orientations that swap width and height
    return (image.height, image.width) if turned else (image.width, image.height)


def build() -> ImageKind:
    """Return the kind."""
    return ImageKind()
